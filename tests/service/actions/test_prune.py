"""What no sweep needs any more, and what is kept because somebody may."""

import os
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from records_support import make_store, make_tracker, plan_of, trial_of

from service.actions.prune import (
    CACHES,
    CHECKPOINTS,
    DELETED_SWEEPS,
    INPUTS,
    SPOOL,
    Pruning,
    plan_pruning,
    prune,
)
from service.actions.record import open_record
from service.driver.lock import sweep_lock
from service.home import spool_folder
from service.plan.places import sweep_folder
from service.spec.document import Storage
from service.states import TrialState
from service.workspace import Workspace
from trainers.files.store import locked
from trainers.teachers.cache_inventory import CACHE_FILE
from trainers.trial.trial_file import TrialPaths

PLAN, OTHER = plan_of(), plan_of("other")
NEEDED, UNUSED, THEIRS = "0" * 20, "f" * 20, "1" * 20
FOLDERS = ("prepared/data", "prepared/teachers", "prepared/students", "caches")


@pytest.fixture
def workspace(kd_sweep_home: Path) -> Workspace:
    """A finished sweep with a failed trial, what it was trained from, and the same of no sweep."""
    home, uri = kd_sweep_home, make_store(kd_sweep_home)
    for folder in FOLDERS:
        for key in (NEEDED, UNUSED):
            (home / folder / key).mkdir(parents=True)
            (home / folder / key / "file").write_bytes(bytes(100))
    paths = TrialPaths(
        teacher=str(home / FOLDERS[1] / NEEDED),
        student=str(home / FOLDERS[2] / NEEDED),
        data=str(home / FOLDERS[0] / NEEDED),
        teacher_cache=str(home / FOLDERS[3] / NEEDED),
    )
    tracker = make_tracker(uri, home)
    sweep = tracker.start_sweep(PLAN)
    trial = trial_of(PLAN, 0, {"tau": 1.0}).model_copy(update={"paths": paths})
    run = tracker.start_trial(sweep, trial, hyperparameters={"tau": 1.0}, label=None)
    tracker.finish_trial(run, TrialState.FAILED)
    tracker.finish_sweep(sweep, TrialState.COMPLETED)
    assert tracker.close()
    for name in (PLAN.sweep_id, "gone-1"):
        (home / "sweeps" / name / "trials/0/checkpoints").mkdir(parents=True)
        (home / "sweeps" / name / "ended").write_text("completed")
    return Workspace(home)


def found(pruning: Pruning) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for item in pruning.items:
        places.setdefault(item.what, []).append(item.place.name)
    return places


def test_what_no_sweep_needs_is_found_and_deleted(workspace: Workspace) -> None:
    planned = plan_pruning(workspace)
    assert found(planned) == {
        DELETED_SWEEPS: ["gone-1"],
        CHECKPOINTS: ["checkpoints"],
        INPUTS: [UNUSED] * 3,
        CACHES: [UNUSED],
    }
    assert [item.bytes for item in planned.items if item.what == INPUTS] == [100] * 3
    prune(planned, workspace)
    assert plan_pruning(workspace).items == []
    home = workspace.home
    assert not (home / "sweeps/gone-1").exists()
    assert (home / "sweeps" / PLAN.sweep_id / "ended").exists()
    assert [path.name for folder in FOLDERS for path in (home / folder).iterdir()] == [NEEDED] * 4
    assert open_record(workspace).trials(PLAN.sweep_id)


@pytest.mark.parametrize(
    "values", [{"responses": "teacher"}, {"student_share": 0.5}, {"soft_prompt_tokens": 3}]
)
def test_each_text_of_a_sweep_keeps_its_inputs(
    workspace: Workspace, values: dict[str, object]
) -> None:
    home, run = workspace.home, make_tracker(workspace.tracking_uri, workspace.home)
    sweep = run.start_sweep(PLAN)
    paths = TrialPaths(student="/s", teacher=None, data=str(home / FOLDERS[0] / UNUSED))
    trial = trial_of(PLAN, 1, values).model_copy(update={"paths": paths})
    started = run.start_trial(sweep, trial, hyperparameters=values, label=None)
    run.finish_trial(started, TrialState.FAILED)
    run.finish_sweep(sweep, TrialState.COMPLETED)
    assert run.close()
    kept = found(plan_pruning(workspace))
    assert kept[INPUTS] == [UNUSED] * 2 and kept[CACHES] == [UNUSED]


def test_age_and_number_keep_the_newer_ones(workspace: Workspace) -> None:
    old = workspace.home / "caches" / ("e" * 20)
    old.mkdir()
    weeks = time.time() - 20 * 86400
    os.utime(old, (weeks, weeks))
    assert found(plan_pruning(workspace, older_than_days=10)) == {CACHES: [old.name]}
    assert found(plan_pruning(workspace, older_than_days=30)) == {}
    kept = found(plan_pruning(workspace, keep=1))
    assert kept == {CACHES: [old.name], INPUTS: [UNUSED] * 2}
    assert found(plan_pruning(workspace, keep=9)) == {}


def test_while_a_sweep_runs_inputs_are_kept(workspace: Workspace) -> None:
    with sweep_lock(sweep_folder(plan_of("new"), workspace.home)):
        planned = plan_pruning(workspace)
        assert set(found(planned)) == {DELETED_SWEEPS, CHECKPOINTS}
        assert "runs and may need them" in planned.kept[0]
    with sweep_lock(workspace.home / "sweeps/gone-1"):
        prune(planned, workspace)
        assert (workspace.home / "sweeps/gone-1").exists(), "it has begun since"


def test_inputs_are_kept_where_a_trials_file_cannot_be_read(workspace: Workspace) -> None:
    (file,) = workspace.home.glob("artifacts/kd-sweep/*/artifacts/trial.json")
    file.unlink()
    planned = plan_pruning(workspace)
    assert INPUTS not in found(planned) and CACHES not in found(planned)
    assert "trial.json" in planned.kept[0]


def test_a_sweep_that_only_begins_is_kept(workspace: Workspace) -> None:
    (workspace.home / "sweeps/begins-1").mkdir()
    assert found(plan_pruning(workspace))[DELETED_SWEEPS] == ["gone-1"]


def test_the_homes_own_record_counts_beside_a_server(workspace: Workspace, tmp_path: Path) -> None:
    other = Workspace(workspace.home, tracking=make_store(tmp_path / "other"))
    assert found(plan_pruning(other))[DELETED_SWEEPS] == ["gone-1"]


def test_what_is_being_made_is_kept(workspace: Workspace) -> None:
    root = workspace.home / "prepared/data"
    for key in ("aa", "bb"):
        (root / f".{key}.77.tmp").mkdir()
    with locked(root / ".aa.lock"):
        assert ".bb.77.tmp" in found(plan_pruning(workspace))[INPUTS]
        assert ".aa.77.tmp" not in found(plan_pruning(workspace))[INPUTS]


def test_leftovers_of_the_spool_go_but_what_waits(workspace: Workspace) -> None:
    for uri, name in (
        ("http://a:1", "rejected.log"),
        ("http://b:1", "1.jsonl"),
        ("http://c:1", ""),
    ):
        folder = spool_folder(workspace.home, uri)
        folder.mkdir(parents=True)
        if name:
            (folder / name).write_text("x")
    empty = spool_folder(workspace.home, "http://c:1").name
    assert set(found(plan_pruning(workspace))[SPOOL]) == {"rejected.log", empty}


def test_a_sweep_whose_driver_was_killed_does_not_run(workspace: Workspace) -> None:
    run_id = open_record(workspace).resolve_sweep(PLAN.sweep_id).run_id
    MlflowClient(workspace.tracking_uri).set_tag(run_id, "kd_sweep.state", "running")
    assert found(plan_pruning(workspace))[INPUTS] == [UNUSED] * 3


@pytest.fixture
def elsewhere(workspace: Workspace, tmp_path: Path) -> Path:
    """A folder that another sweep of this record names for its files and its teacher's cache, and
    that holds a sweep and a cache of another home too."""
    place = tmp_path / "shared"
    for name in (OTHER.sweep_id, "theirs-1"):
        (place / "sweeps" / name / "trials/0/checkpoints").mkdir(parents=True)
    for key in (THEIRS, UNUSED):
        (place / "caches" / key).mkdir(parents=True)
        (place / "caches" / key / CACHE_FILE).write_text("{}")
    spec = OTHER.spec.model_copy(update={"storage": Storage(path=str(place))})
    plan = OTHER.model_copy(update={"spec": spec})
    tracker = make_tracker(workspace.tracking_uri, workspace.home)
    sweep = tracker.start_sweep(plan)
    paths = TrialPaths(
        teacher="/t", student="/s", data="/d", teacher_cache=str(place / "caches" / THEIRS)
    )
    trial = trial_of(plan, 0, {"tau": 1.0}).model_copy(update={"paths": paths})
    run = tracker.start_trial(sweep, trial, hyperparameters={"tau": 1.0}, label=None)
    tracker.finish_trial(run, TrialState.FAILED)
    tracker.finish_sweep(sweep, TrialState.COMPLETED)
    assert tracker.close()
    return place


def test_of_a_folder_that_homes_share_a_sweeps_own_checkpoints_go(
    workspace: Workspace, elsewhere: Path
) -> None:
    planned = plan_pruning(workspace)
    own = elsewhere / "sweeps" / OTHER.sweep_id
    assert [item.place for item in planned.items if elsewhere in item.place.parents] == [
        own / "trials/0/checkpoints"
    ]
    assert planned.kept == [
        f"{elsewhere}/sweeps: its sweeps, but for their checkpoints: kd-sweep delete SWEEP deletes "
        "one",
        f"{elsewhere}/caches: its teacher caches: kd-sweep cache prune --folder {elsewhere}/caches "
        "deletes them",
    ]
    with sweep_lock(own):
        assert "runs and may need them" in plan_pruning(workspace).kept[0]
        prune(planned, workspace)
        assert (own / "trials/0/checkpoints").is_dir(), "it has begun since"
    prune(planned, workspace)
    left = sorted(path.name for path in elsewhere.glob("*/*"))
    assert left == sorted([OTHER.sweep_id, "theirs-1", THEIRS, UNUSED])
    assert not (own / "trials/0/checkpoints").exists()


def test_a_killed_sweep_with_its_own_folder_does_not_run(
    workspace: Workspace, elsewhere: Path
) -> None:
    run_id = open_record(workspace).resolve_sweep(OTHER.sweep_id).run_id
    MlflowClient(workspace.tracking_uri).set_tag(run_id, "kd_sweep.state", "running")
    assert found(plan_pruning(workspace))[INPUTS] == [UNUSED] * 3
