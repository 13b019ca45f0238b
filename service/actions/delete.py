"""A sweep deleted: its runs, students and artifacts, its folder and checkpoints, its study. What it
shares with others is kept, and so is all of it while it runs.

The sweep's own run, by which it is found, goes last: a deletion that was broken off is repeated by
the same words.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.actions.record import open_record
from service.cluster import dashboard
from service.cluster.sweep_job import jobs_of
from service.driver.lock import holder_of, sweep_lock
from service.driver.study_removal import delete_study, sweeps_that_began_with
from service.errors import JobError, PlanError, TrackingError
from service.home import pictures_folder, reruns_folder, sweeps_folder
from service.plan.places import checkpoints_url, driver_lock, study_storage, sweep_folder
from service.plan.plan import SweepPlan
from service.record.plans import read_plan
from service.record.records import SweepRecord
from service.record.removal import Removal, SweepRuns
from service.record.runs import Runs
from service.states import TrialState
from service.workspace import Workspace
from trainers.files.store import bytes_of, remove
from trainers.files.urls import file_system, is_url, without_secrets

RUN_DIGITS = 8  # of a run's id, in the name of its reruns' folders


@dataclass(frozen=True)
class Part:
    """Something that goes: what it is, how many of it, their bytes (None: nobody here knows), and
    where they are."""

    what: str
    count: int
    bytes: int | None
    place: str

    def to_json(self) -> dict[str, Any]:
        """Returns the row of `--json`."""
        return vars(self)


@dataclass(frozen=True)
class Deletion:
    """What goes with a sweep, and what is kept although it used it, in sentences."""

    sweep_id: str
    parts: list[Part]
    kept: list[str]

    def to_json(self) -> dict[str, Any]:
        """Returns the deletion as one JSON object."""
        return {
            "sweep_id": self.sweep_id,
            "parts": [part.to_json() for part in self.parts],
            "kept": self.kept,
        }


@dataclass(frozen=True)
class _Sweep:
    """A sweep to be deleted, with all places that hold something of it."""

    sweep_id: str
    plan: SweepPlan | None
    folder: Path
    runs: SweepRuns
    users: list[str]  # sweeps that began with its study
    beside: list[Path]  # pictures and reruns in the home


def plan_deletion(sweep: str, workspace: Workspace) -> Deletion:
    """Returns what `delete_sweep` would delete; deletes nothing. sweep: id, unique beginning of
    one, name or `latest`.

    Raises `TrackingError` for an unknown sweep, `JobError` for one that runs, `PlanError` for one
    whose student is registered in MLflow.
    """
    found = _find(sweep, workspace)
    return Deletion(found.sweep_id, _parts(found, workspace), _kept(found, workspace))


def delete_sweep(sweep: str, workspace: Workspace) -> Deletion:
    """Deletes the sweep and returns what was deleted. Raises as `plan_deletion`; killed on the way,
    it can be called again."""
    found = _find(sweep, workspace)
    deletion = Deletion(found.sweep_id, _parts(found, workspace), _kept(found, workspace))
    removal = Removal(workspace.tracking_uri)
    with sweep_lock(found.folder) if found.folder.is_dir() else nullcontext():
        for files in found.runs.trials:
            removal.remove(files)
        for path in [*found.beside, *_files_in(found)]:
            remove(path)
        _delete_elsewhere(found)
        removal.remove(found.runs.own)
        if not found.users:
            # With the lock in it: until here no driver could begin.
            remove(found.folder)
    return deletion


def _find(sweep: str, workspace: Workspace) -> _Sweep:
    runs = open_record(workspace)
    record = runs.resolve_sweep(sweep)
    plan = _plan_of(runs, record)
    home = workspace.home
    folder = sweeps_folder(home) / record.sweep_id if plan is None else sweep_folder(plan, home)
    _check_ended(record, folder, workspace)
    recorded = Removal(workspace.tracking_uri).find(record.sweep_id, record.run_id)
    if recorded.registered:
        raise PlanError(
            f"sweep {record.sweep_id}: no student of it may be registered when it is deleted, but "
            f"{', '.join(recorded.registered)} is. Delete that in MLflow first, or keep the sweep."
        )
    users = [] if plan is None else sweeps_that_began_with(plan.sweep_id, _study(plan, home))
    return _Sweep(record.sweep_id, plan, folder, recorded, users, _beside(record, recorded, home))


def _plan_of(runs: Runs, record: SweepRecord) -> SweepPlan | None:
    """Returns the sweep's plan; None where another version wrote it, or it is gone."""
    try:
        return read_plan(runs, record.sweep_id)
    except TrackingError:
        return None


def _study(plan: SweepPlan, home: Path) -> str:
    return study_storage(plan, sweep_folder(plan, home))


def _check_ended(record: SweepRecord, folder: Path, workspace: Workspace) -> None:
    """Raises `JobError` for a sweep that runs, or may run where this machine cannot see it."""
    rule = f"sweep {record.sweep_id}: it must have ended to be deleted, but"
    holder = holder_of(folder)
    if holder is not None:
        raise JobError(f"{rule} {holder} drives it. Stop it: kd-sweep stop {record.sweep_id}.")
    if workspace.cluster is not None:
        running = [
            job
            for job in jobs_of(dashboard.connect(workspace.cluster), record.sweep_id)
            if not job.is_over
        ]
        if running:
            raise JobError(
                f"{rule} job {running[0].submission_id} is {running[0].state}. Stop it: kd-sweep "
                f"stop {record.sweep_id} --address {workspace.cluster.address}."
            )
    elif record.state == TrialState.RUNNING and not folder.is_dir():
        raise JobError(
            f"{rule} its record says that it runs, and not here. Name the cluster that it ran on: "
            "--address."
        )


def _beside(record: SweepRecord, runs: SweepRuns, home: Path) -> list[Path]:
    """Returns what the home keeps of the sweep outside its folder."""
    starts = {files.run_id[:RUN_DIGITS] for files in runs.trials}
    reruns = reruns_folder(home)
    kept = [path for path in reruns.glob("*-*") if path.name.partition("-")[0] in starts]
    return [*kept, *pictures_folder(home).glob(f"{record.sweep_id}-*")]


def _parts(found: _Sweep, workspace: Workspace) -> list[Part]:
    runs = [found.runs.own, *found.runs.trials]
    store = without_secrets(workspace.tracking_uri)
    home, files = workspace.home, _files_in(found)
    folders = [folder for one in runs for folder in one.folders]
    recorded = bytes_of(folders) if folders else None
    students = sum(len(one.models) for one in runs)
    elsewhere = [without_secrets(url) for url in _elsewhere(found)]
    parts = [
        Part("runs with their artifacts", len(runs), recorded, store),
        Part("students among these", students, None, store),
        Part("files of the sweep", len(files), bytes_of(files), str(found.folder)),
        Part("pictures, files of reruns", len(found.beside), bytes_of(found.beside), str(home)),
        *(Part("checkpoints or study", 1, None, url) for url in elsewhere),
    ]
    return [part for part in parts if part.count]


def _files_in(found: _Sweep) -> list[Path]:
    """Returns the files and folders in the sweep's folder; not its lock, and not its study while
    another sweep needs it."""
    kept = {driver_lock(found.folder)}
    if found.plan is not None and found.users:
        kept.add(Path(study_storage(found.plan, found.folder)))
    children = sorted(found.folder.iterdir()) if found.folder.is_dir() else []
    return [path for path in children if path not in kept]


def _elsewhere(found: _Sweep) -> list[str]:
    """Returns the URL of its checkpoints, and the database of its study unless another sweep needs
    that."""
    if found.plan is None:
        return []
    study = study_storage(found.plan, found.folder)
    own_study = study if is_url(study) and not found.users else None
    return [url for url in (checkpoints_url(found.plan), own_study) if url is not None]


def _kept(found: _Sweep, workspace: Workspace) -> list[str]:
    kept = ["prepared inputs and teacher caches: kd-sweep prune deletes what no sweep needs"]
    if found.users:
        kept.append(f"its Optuna study: {', '.join(found.users)} began with it")
    if not found.folder.is_dir():
        kept.append(f"its folder {found.folder}, which is not on this machine")
    if Removal(workspace.tracking_uri).is_server:
        kept.append(
            "its artifacts on the server: its runs are marked as deleted there, and "
            "`mlflow gc` on that machine frees them"
        )
    return kept


def _delete_elsewhere(found: _Sweep) -> None:
    if found.plan is None:
        return
    url = checkpoints_url(found.plan)
    if url is not None:
        system, place = file_system(url)
        if system.exists(place):
            system.rm(place, recursive=True)
    if not found.users:
        delete_study(found.sweep_id, study_storage(found.plan, found.folder))
