"""What no sweep needs any more: folders of deleted sweeps, checkpoints of finished ones, inputs and
caches that no recorded trial was trained from, leftovers of the spool.

What is needed is asked of the record: a trial's `trial.json` names its inputs. Where that cannot be
told, because a sweep runs or a file cannot be read, inputs and caches are kept. So is what lies in
a folder that sweeps name (`storage.path`, `teacher_cache.folder`) and that other homes may use: of
these, only checkpoints of sweeps that this record has are deleted.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.actions.record import open_record
from service.driver.lock import holder_of, plan_in
from service.driver.study_removal import sweeps_that_began_with
from service.errors import TrackingError
from service.home import caches_folder, record_file, spool_folder, sqlite_uri, sweeps_folder
from service.plan.places import (
    checkpoints_folder,
    study_storage,
    sweep_folder,
    trials_folder,
)
from service.record.plans import read_plan
from service.record.records import RunRecord, SweepRecord
from service.record.runs import Runs
from service.states import TrialState
from service.workspace import Workspace
from trainers.files.store import bytes_of, remove
from trainers.preparing.inventory import prepared_folders
from trainers.teachers.cache_inventory import is_being_built, is_complete

DAY_S = 86400.0
# What a process that begins may not have recorded or locked yet.
BEGINS_S = 3600.0
DELETED_SWEEPS = "folders of sweeps that are not recorded"
CHECKPOINTS = "checkpoints of finished sweeps"
INPUTS = "prepared inputs that no recorded trial needs"
CACHES = "teacher caches that no recorded trial needs"
SPOOL = "leftovers of records that waited"


@dataclass(frozen=True)
class Item:
    """A file or folder that goes. age_s: seconds since it was last changed."""

    what: str
    place: Path
    bytes: int
    age_s: float

    def to_json(self) -> dict[str, Any]:
        """Returns the row of `--json`."""
        return {
            "what": self.what,
            "place": str(self.place),
            "bytes": self.bytes,
            "age_days": round(self.age_s / DAY_S, 2),
        }


@dataclass(frozen=True)
class Pruning:
    """What goes, and what was kept because nobody can tell whether it is needed, in sentences."""

    items: list[Item]
    kept: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Returns the pruning as one JSON object."""
        return {"items": [item.to_json() for item in self.items], "kept": self.kept}


def plan_pruning(
    workspace: Workspace, *, older_than_days: float = 0, keep: int = 0, now: float | None = None
) -> Pruning:
    """Returns what `prune` would delete in the home folder; deletes nothing. older_than_days: only
    what was last changed so long ago; keep: so many of each kind stay, the newest; now: seconds
    since 1970, by default the clock's. Raises `TrackingError` when the record does not answer."""
    runs, home = open_record(workspace), workspace.home
    sweeps = runs.sweeps()
    folders = {sweep.sweep_id: _folder_of(sweep, runs, home) for sweep in sweeps}
    needed, kept = _needed(runs, sweeps, _running(sweeps, folders, home))
    found = {
        DELETED_SWEEPS: _deleted_sweeps(sweeps, workspace),
        CHECKPOINTS: _checkpoints(sweeps, folders),
        INPUTS: [] if needed is None else _unused(prepared_folders(home), needed),
        CACHES: [] if needed is None else _unused(_caches(home), needed),
        SPOOL: _leftovers(workspace),
    }
    kept += _shared(folders.values(), needed or (), home)
    clock = time.time() if now is None else now
    items = []
    for what, places in found.items():
        made = sorted((_item(what, place, clock) for place in places), key=lambda one: one.age_s)
        items += [one for one in made[keep:] if one.age_s >= older_than_days * DAY_S]
    return Pruning(items, kept)


def prune(pruning: Pruning, workspace: Workspace) -> None:
    """Deletes what was planned, but for sweeps that have begun since."""
    for item in pruning.items:
        # A sweep's folder, or one in it; of all others none is driven.
        around = (item.place, *item.place.parents)
        if all(holder_of(folder) is None for folder in around):
            remove(item.place)


def _folder_of(sweep: SweepRecord, runs: Runs, home: Path) -> Path:
    """Returns the folder of a recorded sweep's files: in the home, or where its plan says."""
    folder = sweeps_folder(home) / sweep.sweep_id
    if folder.is_dir():
        return folder
    try:
        return sweep_folder(read_plan(runs, sweep.sweep_id), home)
    except TrackingError:  # of another version, or gone
        return folder


def _item(what: str, place: Path, now: float) -> Item:
    changed = max((one.stat().st_mtime for one in _with_children(place)), default=now)
    return Item(what, place, bytes_of([place]), max(0.0, now - changed))


def _with_children(place: Path) -> Iterator[Path]:
    yield place
    if place.is_dir():
        yield from place.iterdir()


def _needed(
    runs: Runs, sweeps: Sequence[SweepRecord], running: Sequence[str]
) -> tuple[set[Path] | None, list[str]]:
    """Returns the inputs that recorded trials were trained from; None, with the reason, where that
    cannot be told."""
    if running:
        return None, [f"prepared inputs and caches: {', '.join(running)} runs and may need them"]
    found: set[Path] = set()
    for sweep in sweeps:
        for record in _one_of_each(runs.trials(sweep.sweep_id)):
            try:
                paths = runs.trial_file(record.run_id).paths
            except TrackingError as error:
                return None, [f"prepared inputs and caches: {error}"]
            found |= {Path(place) for place in paths.model_dump(exclude_none=True).values()}
    return found, []


def _shared(folders: Iterable[Path], needed: Iterable[Path], home: Path) -> list[str]:
    """Returns what is kept of the places outside the home that sweeps name, in sentences."""
    storages = {one.parent for one in folders} - {sweeps_folder(home)}
    caches = {one.parent for one in needed if is_complete(one)} - {caches_folder(home)}
    return [
        *(
            f"{place}: its sweeps, but for their checkpoints: kd-sweep delete SWEEP deletes one"
            for place in sorted(storages)
            if place.is_dir()
        ),
        *(
            f"{place}: its teacher caches: kd-sweep cache prune --folder {place} deletes them"
            for place in sorted(caches)
        ),
    ]


def _running(sweeps: Sequence[SweepRecord], folders: Mapping[str, Path], home: Path) -> list[str]:
    """Returns the sweeps that are driven here, and those that may be elsewhere: a record says that
    it runs also of one whose driver was killed."""
    known = {*sweeps_folder(home).glob("*"), *folders.values()}
    held = {path.name for path in known if holder_of(path) is not None}
    elsewhere = {
        one.sweep_id
        for one in sweeps
        if not TrialState(one.state).is_terminal and not folders[one.sweep_id].is_dir()
    }
    return sorted(held | elsewhere)


def _one_of_each(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Returns a trial for each precision, attention and text, with and without what a teacher has
    to be asked about anew: a sweep's others have the same inputs."""
    found = {}
    for record in records:
        config = record.config
        same = [config.get(n) for n in ("precision", "attention_implementation", "responses")]
        asks_anew = any(config.get(name) for name in ("student_share", "soft_prompt_tokens"))
        found[*same, asks_anew] = record
    return list(found.values())


def _unused(folders: Iterable[Path], needed: set[Path]) -> list[Path]:
    return [folder for folder in folders if folder not in needed]


def _caches(home: Path) -> list[Path]:
    root = caches_folder(home)
    found = sorted(root.iterdir()) if root.is_dir() else []
    complete = [path for path in found if path.is_dir() and path.name[0] != "."]
    builds = [path for path in found if path.name.endswith(".building")]
    return complete + [
        path for path in builds if not is_being_built(root, path.name[1 : -len(".building")])
    ]


def _deleted_sweeps(sweeps: Sequence[SweepRecord], workspace: Workspace) -> list[Path]:
    """Returns the folders of sweeps that neither this record nor the home's own one has, and that
    no other sweep began with."""
    home = workspace.home
    known = {sweep.sweep_id for sweep in sweeps}
    own = sqlite_uri(record_file(home))
    if own != workspace.tracking_uri and record_file(home).exists():
        known |= {sweep.sweep_id for sweep in Runs(own).sweeps()}
    root = sweeps_folder(home)
    found = sorted(root.iterdir()) if root.is_dir() else []
    return [path for path in found if path.is_dir() and _is_deleted(path, known, workspace)]


def _is_deleted(folder: Path, known: set[str], workspace: Workspace) -> bool:
    if folder.name in known or holder_of(folder) is not None:
        return False
    if time.time() - folder.stat().st_mtime < BEGINS_S and not any(folder.glob("ended")):
        return False
    plan = plan_in(folder)
    if plan is None:
        journal = folder / "study.journal"
        return not sweeps_that_began_with(folder.name, str(journal))
    elsewhere = plan.spec.tracking.uri not in (None, workspace.tracking_uri)
    return not elsewhere and not sweeps_that_began_with(folder.name, study_storage(plan, folder))


def _checkpoints(sweeps: Sequence[SweepRecord], folders: Mapping[str, Path]) -> list[Path]:
    """Returns the folders of checkpoints that are left of trials that failed or were cancelled."""
    finished = [folders[one.sweep_id] for one in sweeps if one.state == TrialState.COMPLETED]
    return [
        folder
        for sweep in finished
        for trial in trials_folder(sweep).glob("*")
        if (folder := checkpoints_folder(trial.parent, int(trial.name))).is_dir()
        and holder_of(sweep) is None
    ]


def _leftovers(workspace: Workspace) -> list[Path]:
    """Returns what the record refused, which is kept to be looked at, and the spools of other
    addresses with nothing in them."""
    own = spool_folder(workspace.home, workspace.tracking_uri)
    logs = sorted(own.parent.rglob("rejected.log"))
    others = [path for path in own.parent.glob("*") if path.is_dir() and path != own]
    return logs + [path for path in others if not any(path.rglob("*.*"))]
