"""Where a sweep runs and with what: what a driver is started with, and what its stages need. Plain
data."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from service.driver.shared_inputs import Prepare, prepare_inputs
from service.driver.study_changes import StudyChanges
from service.events import DriverEvent
from service.plan.places import sweep_folder
from service.plan.plan import SweepPlan
from trainers.training.standing import TrialFunction, load_trainer, standing_trainer

CHECKPOINT_EVERY_S = 120.0


@dataclass(frozen=True)
class Tools:
    """What does the work inside Ray's processes; pickled by name. Tests put small ones here.
    `trainer` is also called with `checkpoints`, their URL, where they are stored at one; `load`
    imports what both need for a task."""

    prepare: Prepare = prepare_inputs
    trainer: Callable[..., TrialFunction] = field(
        default=partial(standing_trainer, checkpoint_every_s=CHECKPOINT_EVERY_S)
    )
    load: Callable[[str], None] = load_trainer


@dataclass(frozen=True)
class Place:
    """Where a sweep runs: home folder, MLflow's address, Ray's (None starts one here), and tools;
    `changes` is what to do first with the study of a sweep that was started before."""

    home: Path
    tracking_uri: str
    ray_address: str | None = None
    tools: Tools = Tools()
    changes: StudyChanges = StudyChanges()


@dataclass(frozen=True)
class Sweep:
    """One driver's sweep, for each of its stages. `tracker`: its `service.record.tracking.Tracker`;
    `stop`: set once the user wants it to end; `began`: when this driver did, on the monotonic
    clock."""

    place: Place
    plan: SweepPlan
    tracker: Any
    on_event: Callable[[DriverEvent], None]
    stop: threading.Event
    began: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> Path:
        """The folder of all that the sweep writes, but for checkpoints at a URL."""
        return sweep_folder(self.plan, self.place.home)

    @property
    def duration_s(self) -> float:
        """Seconds since this driver began."""
        return time.monotonic() - self.began

    @property
    def is_out_of_time(self) -> bool:
        """Whether its time budget is spent."""
        budget = self.plan.time_budget_s
        return budget is not None and self.duration_s > budget
