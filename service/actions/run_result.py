"""A run as callers see it: its first event, and what came of it. Values alone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import TrialError
from service.events import DriverEvent
from service.plan.plan import SweepPlan
from service.results.best import Best
from service.signals import STOPPED_EXIT_CODE
from service.states import TrialState
from trainers.files.urls import without_secrets


@dataclass(frozen=True)
class SweepBegins:
    """The first event of a run: the plan that is run, with the id that it has there."""

    plan: SweepPlan


RunEvent = SweepBegins | DriverEvent
OnEvent = Callable[[RunEvent], None]


@dataclass(frozen=True)
class RunResult:
    """What came of a sweep. `report`: an HTML page, by its address where a service has it;
    `study`: where the Optuna study is stored; `done_before`: nothing ran, the same sweep was
    finished already; `experiment_id`: MLflow's."""

    sweep_id: str
    state: str
    tracking_uri: str
    best: Best
    report: Path | str | None = None
    study: str | None = None
    done_before: bool = False
    experiment_id: str | None = None

    @property
    def lines(self) -> list[str]:
        """What was found, in sentences, the weightiest first."""
        return list(self.best.lines)

    @property
    def exit_code(self) -> int:
        """0; 1 when no trial has a result; 130 when the user stopped the sweep."""
        if self.state != TrialState.COMPLETED:
            return STOPPED_EXIT_CODE
        return 0 if self.best.rows else TrialError.exit_code

    def to_json(self) -> dict[str, Any]:
        """Returns the result as one JSON object."""
        return {
            "sweep_id": self.sweep_id,
            "state": self.state,
            "done_before": self.done_before,
            "tracking_uri": without_secrets(self.tracking_uri),
            "report": None if self.report is None else str(self.report),
            "verdict": self.lines,
            "references": self.best.references,
            "best": self.best.to_json(),
        }


def ignore(event: RunEvent) -> None:
    """Takes an event and does nothing with it."""
