"""Sweeps that were begun before: their plans read back from the record, changed, and gone on
with."""

import hashlib
import json
import os
import signal
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pydantic import ValidationError

from service.errors import JobError, PlanError, TrackingError
from service.plan.places import sweep_folder
from service.plan.plan import SweepPlan
from service.plan.trials import points_left

if TYPE_CHECKING:
    from service.record.runs import Runs

PLAN = "plan.json"


def recorded_plan(runs: "Runs", reference: str) -> SweepPlan:
    """Returns the plan of a recorded sweep (id, beginning, name or `latest`). Raises
    `TrackingError` when there is none, or it was written by another version."""
    sweep = runs.resolve_sweep(reference)
    with TemporaryDirectory(prefix="kd-plan-") as folder:
        path = runs.download(sweep.run_id, PLAN, Path(folder))
        try:
            return SweepPlan.model_validate_json(path.read_text())
        except ValidationError as error:
            raise TrackingError(
                f"sweep {sweep.sweep_id}: its {PLAN} must be one of this version, but got: "
                f"{error.errors()[0]['msg']}. Use the version that began it."
            ) from error


def extended(plan: SweepPlan, trials: int) -> SweepPlan:
    """Returns the plan with so many more trials, under the same id."""
    points = points_left(plan.spec)
    total = plan.num_trials + trials
    if points is not None and total - len(plan.controls) > points:
        raise PlanError(
            f"extend: the {plan.spec.sampler.kind} sampler has {points} points besides the "
            f"controls, but got {total - len(plan.controls)} trials wanted. Widen the space in a "
            "new sweep."
        )
    return plan.model_copy(update={"num_trials": total})


def warmed(plan: SweepPlan, source: str) -> SweepPlan:
    """Returns the plan under an id of its own: what the sampler knows at the start is part of what
    the sweep is."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:4]
    return plan.model_copy(update={"sweep_id": f"{plan.sweep_id}-w{digest}"})


def stop_here(plan: SweepPlan, home: Path) -> int:
    """Asks the driver of a sweep on this machine to stop, and returns its process id. Raises
    `JobError` when none runs here."""
    path = sweep_folder(plan, home) / "driver.lock"
    holder = _holder(path)
    if holder is None or holder["host"] != socket.gethostname():
        where = "nowhere" if holder is None else f"on {holder['host']}"
        raise JobError(
            f"sweep {plan.sweep_id}: its driver must run on this machine to be stopped here, but "
            f"runs {where}. For a cluster's sweep give --address."
        )
    pid = int(str(holder["pid"]))
    os.kill(pid, signal.SIGINT)
    return pid


def _holder(path: Path) -> dict[str, object] | None:
    """Returns who holds the lock, None when nobody does."""
    import fcntl

    if not path.exists():
        return None
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder: dict[str, object] = json.loads(file.read())
            return holder
    return None
