"""Sweeps that were started before: stopped, resumed, extended, or with trials to repeat. Their
plans are read back from the record. On the workspace's cluster when it has one, else here."""

import fcntl
import os
import signal
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from service.actions.record import open_record
from service.actions.run import OnEvent, RunResult, drive_sweep, ignore
from service.cluster import dashboard
from service.cluster import job as jobs
from service.cluster.job import JobOrder, SweepJob
from service.driver.study_changes import StudyChanges
from service.errors import JobError, PlanError, TrackingError
from service.plan.places import driver_lock, sweep_folder
from service.plan.plan import SweepPlan
from service.plan.trials import points_left
from service.record.runs import Runs
from service.workspace import Workspace
from trainers.files.json_files import checked_object, parse_json

PLAN = "plan.json"


@dataclass(frozen=True)
class LocalDriver:
    """The process on this machine that drives a sweep, and was asked to stop."""

    sweep_id: str
    pid: int

    def to_json(self) -> dict[str, Any]:
        """Returns the row of `--json`."""
        return {"sweep_id": self.sweep_id, "pid": self.pid}


def resume_sweep(
    sweep: str,
    workspace: Workspace,
    *,
    on_event: OnEvent = ignore,
    stop: threading.Event | None = None,
) -> RunResult | SweepJob:
    """Goes on with a sweep that was stopped, or whose driver or cluster died: to its end on this
    machine, or as another job of the cluster.

    sweep: id, unique beginning of one, name or `latest`; on_event, stop: see `run_sweep`, for this
    machine. Raises `TrackingError` for an unknown sweep, and what running or submitting one raises.
    """
    plan = read_plan(open_record(workspace), sweep)
    return _go_on(plan, StudyChanges(), workspace, on_event=on_event, stop=stop)


def extend_sweep(
    sweep: str,
    workspace: Workspace,
    *,
    trials: int,
    on_event: OnEvent = ignore,
    stop: threading.Event | None = None,
) -> RunResult | SweepJob:
    """Gives a sweep so many more trials, also a finished one, and goes on with it as `resume_sweep`
    does. Raises `PlanError` when its grid has no more points."""
    plan = with_more_trials(read_plan(open_record(workspace), sweep), trials)
    return _go_on(plan, StudyChanges(), workspace, on_event=on_event, stop=stop)


def retry_trials(
    sweep: str,
    workspace: Workspace,
    *,
    trials: Sequence[int] = (),
    on_event: OnEvent = ignore,
    stop: threading.Event | None = None,
) -> RunResult | SweepJob:
    """Repeats trials that failed, diverged or were cancelled, all failed ones where none are named,
    and goes on with the sweep as `resume_sweep` does. Raises `ValueError` for a trial that cannot
    be repeated."""
    changes = StudyChanges(retry=tuple(trials), retry_failed=not trials)
    plan = read_plan(open_record(workspace), sweep)
    return _go_on(plan, changes, workspace, on_event=on_event, stop=stop)


def stop_sweep(sweep: str, workspace: Workspace) -> LocalDriver | SweepJob:
    """Stops a sweep: its trials leave at their next step, and `resume_sweep` goes on from there. On
    a cluster it waits for the end. Raises `JobError` when no driver runs, or the cluster does not
    answer, `TrackingError` for an unknown sweep."""
    if workspace.cluster is None:
        plan = read_plan(open_record(workspace), sweep)
        return LocalDriver(plan.sweep_id, stop_here(plan, workspace.home))
    client = dashboard.connect(workspace.cluster)
    return jobs.stop(client, jobs.find_job(client, sweep))


def _go_on(
    plan: SweepPlan,
    changes: StudyChanges,
    workspace: Workspace,
    *,
    on_event: OnEvent,
    stop: threading.Event | None,
) -> RunResult | SweepJob:
    cluster = workspace.cluster
    if cluster is None:
        return drive_sweep(plan, workspace, changes=changes, on_event=on_event, stop=stop)
    order = JobOrder(plan=plan, changes=changes, max_driver_restarts=1)
    client = dashboard.connect(cluster)
    return jobs.submit(client, order, again=True, environment=cluster.environment)


def read_plan(runs: Runs, sweep: str) -> SweepPlan:
    """Returns the plan of a recorded sweep (id, beginning, name or `latest`). Raises
    `TrackingError` when there is none, or it was written by another version."""
    found = runs.resolve_sweep(sweep)
    with TemporaryDirectory(prefix="kd-plan-") as folder:
        path = runs.download(found.run_id, PLAN, Path(folder))
        try:
            plan = SweepPlan.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the document"
            raise TrackingError(
                f"sweep {found.sweep_id}: its {PLAN} must be one of this version, but got: "
                f"{field}: {first['msg']}. Use the version that began it."
            ) from error
    if plan.sweep_id != found.sweep_id:
        raise TrackingError(
            f"sweep {found.sweep_id}: its {PLAN} must be its own, but got that of "
            f"'{plan.sweep_id}'. Was the artifact replaced?"
        )
    return plan


def with_more_trials(plan: SweepPlan, trials: int) -> SweepPlan:
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


def stop_here(plan: SweepPlan, home: Path) -> int:
    """Asks the driver of a sweep on this machine to stop, and returns its process id. Raises
    `JobError` when none runs here."""
    path = driver_lock(sweep_folder(plan, home))
    holder = _holder(path)
    if holder is None or holder["host"] != socket.gethostname():
        where = "nowhere" if holder is None else f"on {holder['host']}"
        raise JobError(
            f"sweep {plan.sweep_id}: its driver must run on this machine to be stopped here, but "
            f"runs {where}. For a cluster's sweep give --address."
        )
    pid = int(str(holder["pid"]))
    try:
        os.kill(pid, signal.SIGINT)
    except OSError as error:
        raise JobError(
            f"sweep {plan.sweep_id}: its driver, process {pid}, must take a signal, but got: "
            f"{error}. Stop it as the user who started it."
        ) from error
    return pid


def _holder(path: Path) -> dict[str, object] | None:
    """Returns who holds the lock, None when nobody does. The file's text alone says nothing: a
    driver that was killed leaves it, and its process id may be another process's by now."""
    if not path.exists():
        return None
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                document = parse_json(file.read(), path)
                return checked_object(document, path, {"host": str, "pid": int})
            except ValueError as error:
                raise JobError(
                    f"{error} A driver holds this file: end that process by hand."
                ) from error
    return None
