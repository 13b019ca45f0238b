"""What a sweep's events have said so far, in numbers and words; no terminal is known here."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from service.events import (
    DriverEvent,
    Notice,
    Preparing,
    SlotsUp,
    SweepEnded,
    SweepGoesOn,
    TrialAdvanced,
    TrialEnded,
    TrialEvaluated,
    TrialStarted,
    Waiting,
)
from service.states import TrialState
from service.words import brief, duration, name_of
from trainers.trial.metrics import sign_of

if TYPE_CHECKING:
    from service.plan.plan import SweepPlan

MAX_NOTICES = 3
WAITS_BEFORE_STAGES = 2  # for Ray, and for study and record: see `service.driver.driver`


@dataclass(frozen=True)
class Running:
    """A trial in a slot: its name, its last evaluation and the objective's value there, and how
    many steps it has done of how many."""

    name: str
    evaluation: int = 0
    value: float | None = None
    step: int = 0
    num_steps: int = 0

    def where(self) -> str:
        """Returns how far it is, in words."""
        if self.num_steps:
            return f"step {self.step:,} of {self.num_steps:,}"
        return f"evaluation {self.evaluation}" if self.evaluation else "opening models"


class Wait:
    """What is waited for at present, if anything is, and since when. `now` gives seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._for: tuple[str, float] | None = None

    def begin(self, what: str) -> str:
        """Notes the wait; returns the line that says it."""
        self._for = (what, self._now())
        return f"{what} …"

    def end(self) -> None:
        """Notes that something happens again."""
        self._for = None

    def text(self) -> str | None:
        """Returns the wait and how long it has taken, None where there is none."""
        if self._for is None:
            return None
        what, since = self._for
        return f"{what} … {self._now() - since:.0f} s"


class TimeBudget:
    """How much is left of a time budget, if there is one. `now` gives seconds."""

    def __init__(self, budget_s: float | None, now: Callable[[], float]) -> None:
        self._budget_s, self._now = budget_s, now
        self._num_waits = 0
        self._since: float | None = None

    def take(self, event: DriverEvent) -> None:
        """Begins with the first event of the driver's own stages, about when the driver does."""
        is_wait = isinstance(event, Waiting)
        self._num_waits += is_wait
        has_begun = not is_wait or self._num_waits > WAITS_BEFORE_STAGES
        if self._budget_s is not None and self._since is None and has_begun:
            self._since = self._now()

    def left_s(self) -> float | None:
        """Returns the seconds in which trials may start; those that run then go on to their ends.
        None without a budget, and before it has begun."""
        if self._since is None or self._budget_s is None:
            return None
        return max(0.0, self._budget_s - (self._now() - self._since))


class SweepProgress:
    """What the events have said so far. `now` gives seconds; it is asked at each event."""

    def __init__(self, plan: "SweepPlan", now: Callable[[], float]) -> None:
        self._plan, self._now = plan, now
        objective = plan.spec.objective[0]
        self.metric, self._sign = objective.metric, sign_of(objective.direction)
        self.stage: tuple[str, float] | None = None
        self.ended: Counter[TrialState] = Counter()
        self.running: dict[int, Running] = {}
        self.best: tuple[float, int, str] | None = None
        self.notices: list[str] = []
        self.slots = 0
        self.wait = Wait(now)
        self._names: dict[int, str] = {}
        self._tuning: set[int] = set()
        self._num_before = 0
        self._pace_from: float | None = None
        self._stage_from: tuple[float, float] | None = None
        self._budget = TimeBudget(plan.time_budget_s, now)

    def take(self, event: DriverEvent) -> str | None:
        """Takes an event in; returns the line that says it, or None for what only a panel shows."""
        self._budget.take(event)
        match event:
            case Preparing():
                return self._preparing(event)
            case Waiting():
                self.stage = None
                return self.wait.begin(event.what)
            case SweepGoesOn():
                return self._go_on(event)
            case SlotsUp():
                self._slots_up(event)
                return f"slots ready: {event.num_slots} of {event.num_planned}"
            case TrialStarted() | TrialAdvanced() | TrialEvaluated() | TrialEnded():
                return self._trial(event)
            case Notice():
                text = brief(event.text)
                self.notices = [*self.notices, text][-MAX_NOTICES:]
                return text
            case SweepEnded():
                self.running.clear()
                return f"sweep {event.summary.state}"

    def _trial(
        self, event: TrialStarted | TrialAdvanced | TrialEvaluated | TrialEnded
    ) -> str | None:
        match event:
            case TrialStarted():
                self.wait.end()
                return self._begin(event)
            case TrialAdvanced() | TrialEvaluated():
                self._advance(event)
                return None
            case TrialEnded():
                return self._end(event)

    @property
    def num_done(self) -> int:
        """Trials that have ended."""
        return sum(self.ended.values())

    def eta_s(self) -> float | None:
        """Returns about how many seconds are left: at this pace, of which nothing is known before a
        trial ended, but no more than of the time budget; None where neither says."""
        left = [one for one in (self._pace_eta_s(), self._budget.left_s()) if one is not None]
        return min(left, default=None)

    def _pace_eta_s(self) -> float | None:
        # An earlier driver's trials say nothing of this one's pace.
        num_here = self.num_done - self._num_before
        if self._pace_from is None or num_here <= 0:
            return None
        left = max(0, self._plan.num_trials - self.num_done)
        return left * (self._now() - self._pace_from) / num_here

    def left_text(self) -> str:
        """Returns what is left in words, empty where nothing is known of it."""
        eta, budget = self.eta_s(), self._budget.left_s()
        if eta is None:
            return ""
        if budget is None or eta < budget:
            return f"about {duration(eta)} left"
        return f"{duration(budget)} left of the time budget" if budget else "time budget spent"

    def share_done(self) -> float:
        """Returns the share of the planned trials that have ended, or of the time budget that is
        spent, whichever is more, 0 to 1."""
        budget, left = self._plan.time_budget_s, self._budget.left_s()
        spent = 0.0 if budget is None or left is None else 1 - left / budget
        return max(spent, min(1.0, self.num_done / self._plan.num_trials))

    def counts(self) -> str:
        """Returns the trials by state in words, e.g. `3 of 20 done (2 completed, 1 failed)`; of how
        many is left out where the time budget alone ends the sweep."""
        parts = ", ".join(f"{count} {state}" for state, count in sorted(self.ended.items()))
        total = "" if self._plan.is_open_ended else f" of {self._plan.num_trials}"
        done = f"{self.num_done}{total} done"
        return f"{done} ({parts})" if parts else done

    def best_text(self) -> str:
        """Returns the best trial so far in words."""
        if self.best is None:
            return "none yet"
        value, number, name = self.best
        return f"{self.metric} {value:.4g}  trial {number}: {name}"

    def stage_eta_s(self) -> float | None:
        """Returns about how many seconds the stage of preparing still takes; None when unknown."""
        if self.stage is None or self._stage_from is None:
            return None
        began, share = self._stage_from
        done = self.stage[1] - share
        return None if done <= 0 else (self._now() - began) * (1 - self.stage[1]) / done

    def _preparing(self, event: Preparing) -> str | None:
        """A line at a stage's begin and end, and at each quarter of it."""
        is_new = self.stage is None or self.stage[0] != event.stage
        before = -1.0 if self.stage is None or is_new else self.stage[1]
        self.stage = (event.stage, event.share)
        self.wait.end()
        if is_new:
            self._stage_from = (self._now(), event.share)
        if not is_new and event.share < 1 and int(4 * event.share) <= int(4 * before):
            return None
        eta = self.stage_eta_s() if 0 < event.share < 1 else None
        left = "" if eta is None else f", about {duration(eta)} left"
        return f"preparing: {event.stage} {event.share:.0%}{left}"

    def _go_on(self, event: SweepGoesOn) -> str:
        """Counts on from what an earlier driver's trials came to."""
        self.ended = Counter({TrialState(name): count for name, count in event.counts.items()})
        self._num_before = self.num_done
        if event.best is not None and event.objective is not None:
            name = name_of(event.label, event.hyperparameters)
            self.best = (event.objective, event.best, name)
        return f"goes on: {self.counts()}; best so far: {self.best_text()}"

    def _slots_up(self, event: SlotsUp) -> None:
        self.stage, self.slots = None, event.num_slots
        if self._pace_from is None and event.num_slots:
            # Before that the trials waited for slots, which is no part of the pace.
            self._pace_from = self._now()

    def _begin(self, event: TrialStarted) -> str:
        name = name_of(event.label, event.hyperparameters)
        self._names[event.trial] = name
        if self._plan.is_tuning(event.hyperparameters):
            self._tuning.add(event.trial)
        self.running[event.trial] = Running(name)
        again = f" (attempt {event.attempt + 1})" if event.attempt else ""
        return f"trial {event.trial} started{again}: {name}"

    def _advance(self, event: TrialAdvanced | TrialEvaluated) -> None:
        """Notes what is new of a trial, unless it has ended: another thread may say so late."""
        known = self.running.get(event.trial)
        if known is None:
            return
        if isinstance(event, TrialAdvanced):
            known = replace(known, step=event.step, num_steps=event.num_steps)
        else:
            value = event.metrics.get(self.metric)
            known = replace(known, evaluation=event.evaluation, value=value)
        self.running[event.trial] = known

    def _end(self, event: TrialEnded) -> str:
        self.running.pop(event.trial, None)
        self.ended[event.state] += 1
        name = self._names.get(event.trial, "")
        value = event.objective
        # What early stopping ended was not trained to its budget, and wins nothing; nor does what
        # only tunes a study.
        counts = event.state is TrialState.COMPLETED and event.trial not in self._tuning
        if value is not None and counts:
            if self.best is None or self._sign * (value - self.best[0]) > 0:
                self.best = (value, event.trial, name)
        shown = "" if value is None else f", {self.metric} {value:.4g}"
        error = f": {brief(event.error)}" if event.error else ""
        # A sweep that is stopping has nothing left to do.
        left = "" if event.state is TrialState.CANCELLED else self.left_text()
        left = f", {left}" if left else ""
        return f"trial {event.trial} {event.state}{shown}{error}; {self.counts()}{left}"
