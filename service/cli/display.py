"""Shows a running sweep: a live panel on a terminal or in a notebook, plain lines elsewhere.

Events come from several threads of the driver, and Rich draws the panel in a thread of its own,
which reads the same `SweepProgress` without a lock. What it reads together may therefore be one
event apart; a panel that is drawn again a quarter of a second later can afford that.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from service import actions
from service.cli.fitting import FittedTable
from service.cli.notebook import NotebookPanel
from service.cli.plan_table import plan_view
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
)
from service.signals import StopOnSignal
from service.states import TrialState
from service.words import brief, describe, duration

if TYPE_CHECKING:
    from service.actions.run import RunEvent
    from service.plan.plan import SweepPlan

MAX_NOTICES = 3


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
        return f"evaluation {self.evaluation}" if self.evaluation else "training"


class SweepProgress:
    """What the events have said so far. `now` gives seconds; it is asked at each event."""

    def __init__(self, plan: "SweepPlan", now: Callable[[], float]) -> None:
        self._plan, self._now = plan, now
        objective = plan.spec.objective[0]
        self.metric, self._sign = objective.metric, 1 if objective.direction == "maximize" else -1
        self.stage: tuple[str, float] | None = None
        self.ended: Counter[TrialState] = Counter()
        self.running: dict[int, Running] = {}
        self.best: tuple[float, int, str] | None = None
        self.notices: list[str] = []
        self.slots = 0
        self._names: dict[int, str] = {}
        self._num_before = 0
        self._pace_from: float | None = None
        self._stage_from: tuple[float, float] | None = None

    def take(self, event: DriverEvent) -> str | None:
        """Takes an event in; returns the line that says it, or None for what only a panel shows."""
        match event:
            case Preparing():
                return self._preparing(event)
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
        """Returns about how many seconds are left at this pace; None before a trial ended."""
        # An earlier driver's trials say nothing of this one's pace.
        num_here = self.num_done - self._num_before
        if self._pace_from is None or num_here <= 0:
            return None
        left = max(0, self._plan.num_trials - self.num_done)
        return left * (self._now() - self._pace_from) / num_here

    def share_done(self) -> float:
        """Returns the share of the planned trials that have ended, 0 to 1."""
        return min(1.0, self.num_done / self._plan.num_trials)

    def counts(self) -> str:
        """Returns the trials by state in words, e.g. `3 of 20 done (2 completed, 1 failed)`."""
        parts = ", ".join(f"{count} {state}" for state, count in sorted(self.ended.items()))
        done = f"{self.num_done} of {self._plan.num_trials} done"
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
            name = event.label or describe(event.hyperparameters)
            self.best = (event.objective, event.best, name)
        return f"goes on: {self.counts()}; best so far: {self.best_text()}"

    def _slots_up(self, event: SlotsUp) -> None:
        self.stage, self.slots = None, event.num_slots
        if self._pace_from is None and event.num_slots:
            # Before that the trials waited for slots, which is no part of the pace.
            self._pace_from = self._now()

    def _begin(self, event: TrialStarted) -> str:
        name = event.label or describe(event.hyperparameters)
        self._names[event.trial] = name
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
        if value is not None and (self.best is None or self._sign * (value - self.best[0]) > 0):
            self.best = (value, event.trial, name)
        shown = "" if value is None else f", {self.metric} {value:.4g}"
        error = f": {brief(event.error)}" if event.error else ""
        # A sweep that is stopping has nothing left to do.
        eta = None if event.state is TrialState.CANCELLED else self.eta_s()
        left = "" if eta is None else f", about {duration(eta)} left"
        return f"trial {event.trial} {event.state}{shown}{error}; {self.counts()}{left}"


class Display(Protocol):
    """Takes the driver's events and shows them."""

    def __enter__(self) -> "Display":
        """Starts to show."""

    def __exit__(self, *reason: object) -> None:
        """Stops showing."""

    def on_event(self, event: DriverEvent) -> None:
        """Shows an event."""


class PlainDisplay:
    """One line for each event that matters."""

    def __init__(self, console: Console, progress: SweepProgress) -> None:
        self._console, self._progress = console, progress

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(self, *reason: object) -> None:
        """Nothing is open."""

    def on_event(self, event: DriverEvent) -> None:
        """Writes the event's line, if it has one."""
        line = self._progress.take(event)
        if line is not None:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveDisplay:
    """A panel that stays in place: bar, states, running trials, best so far."""

    def __init__(self, console: Console, progress: SweepProgress) -> None:
        self._progress = progress
        # Asked for the panel at each refresh instead of being given one: the time that is left is
        # estimated anew also while no event comes.
        self._live = (
            NotebookPanel(lambda: panel(progress))
            if console.is_jupyter
            else Live(console=console, get_renderable=lambda: panel(progress), refresh_per_second=4)
        )

    def __enter__(self) -> "LiveDisplay":
        self._live.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._live.stop()

    def on_event(self, event: DriverEvent) -> None:
        """Takes the event in; the panel follows by itself."""
        self._progress.take(event)


def display_on(console: Console, progress: SweepProgress) -> PlainDisplay | LiveDisplay:
    """Returns the live panel on a terminal or in a notebook, and plain lines elsewhere."""
    is_live = console.is_terminal or console.is_jupyter
    return (LiveDisplay if is_live else PlainDisplay)(console, progress)


def panel(progress: SweepProgress) -> RenderableType:
    """Returns the panel for the events so far."""
    lines: list[RenderableType] = []
    if progress.stage is not None:
        name, share = progress.stage
        eta = progress.stage_eta_s() if share < 1 else None
        left = "" if eta is None else f", about {duration(eta)} left"
        lines.append(_bar(f"preparing: {name}", share, f"{share:.0%}{left}"))
    elif progress.slots == 0:
        lines.append(Text("starting Ray …", style="dim"))
    else:
        total = progress.num_done + len(progress.running)
        eta = progress.eta_s()
        left = "" if eta is None else f"about {duration(eta)} left"
        lines.append(_bar(progress.counts(), progress.share_done(), left))
        lines.append(
            Text(f"best so far: {progress.best_text()}", style="bold") if total else Text()
        )
        lines.append(_running_table(progress))
    lines.extend(Text(notice, style="yellow") for notice in progress.notices)
    return Group(*lines)


def _bar(text: str, share: float, right: str) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_row(ProgressBar(total=1.0, completed=share, width=30), Text(right))
    return Group(Text(text), grid)


def _running_table(progress: SweepProgress) -> RenderableType:
    # `sorted` copies the items before it compares them, in one call that holds the interpreter's
    # lock: a trial that starts meanwhile cannot change the dict under this loop.
    rows = [
        (
            Text(f"  trial {number}", style="cyan"),
            Text(trial.name),
            Text(trial.where()),
            Text("" if trial.value is None else f"{progress.metric} {trial.value:.4g}"),
        )
        for number, trial in sorted(progress.running.items())
    ]
    return FittedTable(("", "", "", ""), rows)


class WatchDisplay:
    """Shows a sweep from its first event, which brings the plan, to its last."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._display: Display | None = None
        self._sweep_id: str | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *reason: object) -> None:
        self._open.close()
        if kind is KeyboardInterrupt and self._sweep_id is not None:
            self._console.print(Text(self._left(self._sweep_id)), soft_wrap=True)

    def on_event(self, event: "RunEvent") -> None:
        """Shows an event."""
        if isinstance(event, actions.run.SweepBegins):
            self._begin(event.plan)
            return
        assert self._display is not None, "the first event brings the plan"
        self._display.on_event(event)
        if isinstance(event, SweepEnded):
            self._open.close()

    def _begin(self, plan: "SweepPlan") -> None:
        self._sweep_id = plan.sweep_id
        progress = SweepProgress(plan, time.monotonic)
        self._display = display_on(self._console, progress)
        self._open.enter_context(self._display)

    def _left(self, sweep_id: str) -> str:
        """Returns what to say when the user leaves with Ctrl-C."""
        return f"the sweep goes on without being watched; look again: kd-sweep watch {sweep_id}"


class RunDisplay(WatchDisplay):
    """Shows a run in this process, and sets `stop` at its first Ctrl-C or SIGTERM."""

    def __init__(
        self,
        console: Console,
        *,
        shows_plan: bool = False,
        stop: threading.Event | None = None,
    ) -> None:
        super().__init__(console)
        self._shows_plan = shows_plan
        self._stopper = StopOnSignal(console.print, stop)

    @property
    def stop(self) -> threading.Event:
        """Set when the user wants the sweep to stop."""
        return self._stopper.stop

    def on_event(self, event: "RunEvent") -> None:
        """Shows an event."""
        if self._display is not None:
            # Ray replaces the handlers when it starts, so each event sets them again.
            self._stopper.install()
        super().on_event(event)

    def _begin(self, plan: "SweepPlan") -> None:
        if self._shows_plan:
            self._console.print(plan_view(plan))
        super()._begin(plan)
        # Above the display, so that it is left first: its message goes to a display that still
        # shows. Before this event a signal ends the process at once, as nothing runs yet.
        self._open.enter_context(self._stopper)

    def _left(self, sweep_id: str) -> str:
        return f"ended at once; what is finished is kept. Go on with: kd-sweep resume {sweep_id}"
