"""What there is to tell of a sweep: that it ended, failed, or found a new best. Pure: made from the
driver's events."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from service.events import DriverEvent, SweepEnded, SweepGoesOn, TrialEnded, TrialStarted
from service.plan.plan import SweepPlan
from service.states import TrialState
from service.words import brief, name_of
from trainers.files.urls import without_secrets
from trainers.trial.metrics import sign_of

PREFIX = "KD_SWEEP_NEWS_"


class Happened(StrEnum):
    """What there is to tell."""

    NEW_BEST = "new_best"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(frozen=True)
class BestTrial:
    """The best trial so far; `name`: its config in words."""

    trial: int
    objective: float
    name: str
    hyperparameters: Mapping[str, Any]


@dataclass(frozen=True)
class News:
    """One thing to tell. `counts`: trials that have ended, by state, empty where that is not known;
    `error`: why it failed; `next`: the command to go on with."""

    event: Happened
    sweep_id: str
    state: TrialState
    metric: str
    counts: Mapping[str, int] = field(default_factory=dict)
    best: BestTrial | None = None
    error: str | None = None
    next: str = ""

    def title(self) -> str:
        """Returns the news in a line."""
        if self.event is Happened.NEW_BEST and self.best is not None:
            return f"{self.sweep_id}: new best, {self.metric} {self.best.objective:.4g}"
        return f"{self.sweep_id}: {self.state}"

    def text(self) -> str:
        """Returns the news in a few lines: why, the best config and its score, trials by state, the
        command to go on with."""
        lines = [self.error] if self.error else []
        best = self.best
        if best is not None:
            score = f"{self.metric} {best.objective:.4g}"
            # Configs are compared by their means over seeds, of which one trial is one.
            luck = "best trial, of one seed" if "seed" in best.hyperparameters else "best"
            lines.append(f"{luck}: {score}, trial {best.trial}: {best.name}")
        if self.counts:
            counts = (f"{count} {state}" for state, count in sorted(self.counts.items()))
            lines.append(f"trials: {', '.join(counts)}")
        return "\n".join([*lines, f"next: {self.next}"])

    def facts(self) -> dict[str, Any]:
        """Returns the news as one JSON object."""
        best = self.best
        return {
            "event": str(self.event),
            "sweep_id": self.sweep_id,
            "state": str(self.state),
            "metric": self.metric,
            "objective": best.objective if best else None,
            "trial": best.trial if best else None,
            "config": best.name if best else None,
            "hyperparameters": dict(best.hyperparameters) if best else None,
            "trials": dict(self.counts),
            "error": self.error,
            "next": self.next,
            "title": self.title(),
            "text": self.text(),
        }

    def variables(self) -> dict[str, str]:
        """Returns the plain facts as environment variables, such as KD_SWEEP_NEWS_STATE."""
        plain = {k: v for k, v in self.facts().items() if isinstance(v, str | int | float)}
        return {PREFIX + name.upper(): str(value) for name, value in plain.items()}


class Newsroom:
    """Makes news of a sweep's events. With two objectives no trial is best, and none is named."""

    def __init__(self, plan: SweepPlan) -> None:
        self._plan, self._sweep_id, objectives = plan, plan.sweep_id, plan.spec.objective
        self._metric = ", ".join(objective.metric for objective in objectives)
        self._sign = sign_of(objectives[0].direction)
        self._has_a_best = len(objectives) == 1
        self._names: dict[int, tuple[str, Mapping[str, Any]]] = {}
        self._counts: Counter[str] = Counter()
        self._best: BestTrial | None = None

    def take(self, event: DriverEvent) -> News | None:
        """Takes an event in; returns what there is to tell of it."""
        match event:
            case SweepGoesOn():
                self._go_on(event)
            case TrialStarted():
                name = name_of(event.label, event.hyperparameters)
                self._names[event.trial] = (name, event.hyperparameters)
            case TrialEnded():
                return self._ended(event)
            case SweepEnded(summary):
                self._counts = Counter(summary.counts)
                return self._news(Happened.ENDED, TrialState(summary.state))
        return None

    def failed(self, error: str) -> News:
        """Returns the news that the sweep failed."""
        return self._news(Happened.FAILED, TrialState.FAILED, without_secrets(brief(error)))

    def _go_on(self, event: SweepGoesOn) -> None:
        self._counts = Counter(event.counts)
        if self._has_a_best and event.best is not None and event.objective is not None:
            values = event.hyperparameters
            name = name_of(event.label, values)
            self._best = BestTrial(event.best, event.objective, name, values)

    def _ended(self, event: TrialEnded) -> News | None:
        self._counts[event.state] += 1
        value = event.objective
        if event.state is not TrialState.COMPLETED or value is None or not self._has_a_best:
            return None
        if self._best is not None and self._sign * (value - self._best.objective) <= 0:
            return None
        name, values = self._names.get(event.trial, ("", {}))
        if self._plan.is_tuning(values):
            return None
        self._best = BestTrial(event.trial, value, name, values)
        return self._news(Happened.NEW_BEST, TrialState.RUNNING)

    def _news(self, event: Happened, state: TrialState, error: str | None = None) -> News:
        sweep = self._sweep_id
        is_over = state is TrialState.COMPLETED
        onward = f"kd-sweep best --sweep {sweep}" if is_over else f"kd-sweep resume {sweep}"
        return News(
            event,
            sweep,
            state,
            self._metric,
            counts=dict(self._counts),
            best=self._best,
            error=error,
            next=f"kd-sweep trials {sweep}" if event is Happened.NEW_BEST else onward,
        )
