"""A sweep that is deleted: what goes, what stays, what refuses it, and one that is killed."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_server import Server
from records_support import make_store, plan_of, record_sweep

from service.actions import delete
from service.actions.delete import Deletion, delete_sweep, plan_deletion
from service.actions.record import open_record
from service.driver.lock import sweep_lock
from service.errors import JobError, PlanError, TrackingError
from service.home import pictures_folder, reruns_folder
from service.plan.places import study_storage, sweep_folder
from service.record.removal import Removal
from service.states import TrialState
from service.workspace import Workspace

ROWS: list[tuple[dict[str, Any], dict[str, float]]] = [
    ({"tau": 1.0}, {"rouge_l": 20.0}),
    ({"tau": 2.0}, {"rouge_l": 30.0}),
]
GOES, STAYS = plan_of(code_version="1"), plan_of(code_version="2")


def fill(home: Path, uri: str) -> None:
    """Two sweeps of two trials, with files in their folders."""
    for plan in (GOES, STAYS):
        record_sweep(uri, home, plan, ROWS)
        folder = sweep_folder(plan, home)
        (folder / "trials/1/checkpoints").mkdir(parents=True)
        (folder / "trials/1/checkpoints/weights").write_bytes(bytes(1000))
        (folder / "study.journal").write_text('{"op_code": 0}\n')
        (folder / "ended").write_text("completed")
    (home / "caches/one").mkdir(parents=True)


@pytest.fixture
def workspace(kd_sweep_home: Path) -> Workspace:
    made = Workspace(kd_sweep_home)
    fill(kd_sweep_home, make_store(kd_sweep_home))
    return made


def names(workspace: Workspace) -> list[str]:
    return [sweep.sweep_id for sweep in open_record(workspace).sweeps()]


def bytes_of(deletion: Deletion, what: str) -> int | None:
    return next(part.bytes for part in deletion.parts if part.what == what)


def files(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}


def test_a_plan_says_what_goes_and_deletes_nothing(workspace: Workspace) -> None:
    before = files(workspace.home)
    planned = plan_deletion(GOES.sweep_id, workspace)
    assert {part.what: part.count for part in planned.parts} == {
        "runs with their artifacts": 3,
        "files of the sweep": 3,
    }
    texts = "completed" + '{"op_code": 0}\n'
    assert bytes_of(planned, "files of the sweep") == 1000 + len(texts)
    assert (bytes_of(planned, "runs with their artifacts") or 0) > 1000
    assert files(workspace.home) == before and len(names(workspace)) == 2
    assert json.loads(json.dumps(planned.to_json()))["sweep_id"] == GOES.sweep_id


def test_what_is_the_sweeps_own_goes_and_nothing_else(workspace: Workspace) -> None:
    home = workspace.home
    trial = open_record(workspace).trials(GOES.sweep_id)[0]
    picture = pictures_folder(home) / f"{GOES.sweep_id}-rho.html"
    rerun = reruns_folder(home) / f"{trial.run_id[:8]}-1f"
    other = reruns_folder(home) / "01234567-1f"
    for path in (picture, rerun / "out" / "x", other / "x"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    delete_sweep(GOES.sweep_id, workspace)
    assert names(workspace) == [STAYS.sweep_id]
    assert [one.state for one in open_record(workspace).trials(STAYS.sweep_id)] == [
        TrialState.COMPLETED
    ] * 2
    gone = (sweep_folder(GOES, home), picture, rerun, home / "artifacts/kd-sweep" / trial.run_id)
    assert not any(path.exists() for path in gone)
    assert other.exists() and (home / "caches/one").is_dir()
    assert len(list(home.glob("artifacts/kd-sweep/*/artifacts/trial.json"))) == 2
    with pytest.raises(TrackingError, match="no sweep is called so"):
        plan_deletion(GOES.sweep_id, workspace)


@pytest.mark.parametrize("killed_at", range(3))
def test_a_deletion_that_was_killed_is_repeated(
    workspace: Workspace, killed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real = Removal._remove_artifacts

    def dies(self: Removal, uri: str) -> None:
        calls.append(uri)
        if len(calls) == killed_at + 1:
            raise KeyboardInterrupt("killed")
        real(self, uri)

    monkeypatch.setattr(Removal, "_remove_artifacts", dies)
    with pytest.raises(KeyboardInterrupt, match="killed"):
        delete_sweep(GOES.sweep_id, workspace)
    assert GOES.sweep_id in names(workspace)
    delete_sweep(GOES.sweep_id, workspace)
    assert names(workspace) == [STAYS.sweep_id]
    assert not sweep_folder(GOES, workspace.home).exists()


def test_trials_that_were_deleted_in_mlflow_go_too(workspace: Workspace) -> None:
    client = MlflowClient(workspace.tracking_uri)
    trial = open_record(workspace).trials(GOES.sweep_id)[0]
    client.delete_run(trial.run_id)
    delete_sweep(GOES.sweep_id, workspace)
    assert not (workspace.home / "artifacts/kd-sweep" / trial.run_id).exists()
    with pytest.raises(Exception, match="not found"):
        client.get_run(trial.run_id)


def test_a_sweep_that_runs_is_refused(workspace: Workspace) -> None:
    with sweep_lock(sweep_folder(GOES, workspace.home)):
        with pytest.raises(JobError, match=r"process \d+ on .* drives it. Stop it: kd-sweep stop"):
            plan_deletion(GOES.sweep_id, workspace)


def test_a_sweep_that_runs_on_the_cluster_is_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = SimpleNamespace(is_over=False, submission_id="toy-a2", state=TrialState.RUNNING)
    monkeypatch.setattr(delete.dashboard, "connect", lambda cluster: None)
    monkeypatch.setattr(delete, "jobs_of", lambda client, sweep_id: [job])
    there = workspace.on(SimpleNamespace(address="http://head:8265"))  # type: ignore[arg-type]
    with pytest.raises(JobError, match="job toy-a2 is running. Stop it: .* --address http://head"):
        plan_deletion(GOES.sweep_id, there)
    job.is_over = True
    assert plan_deletion(GOES.sweep_id, there).parts


def test_a_sweep_that_may_run_elsewhere_is_refused(workspace: Workspace) -> None:
    client = MlflowClient(workspace.tracking_uri)
    run_id = open_record(workspace).resolve_sweep(GOES.sweep_id).run_id
    client.set_tag(run_id, "kd_sweep.state", "running")
    assert plan_deletion(GOES.sweep_id, workspace).parts, "its driver was killed here"
    shutil.rmtree(sweep_folder(GOES, workspace.home))
    with pytest.raises(JobError, match="its record says that it runs, and not here"):
        plan_deletion(GOES.sweep_id, workspace)


def test_a_study_that_another_sweep_began_with_is_kept(workspace: Workspace) -> None:
    home = workspace.home
    journal = sweep_folder(STAYS, home) / "study.journal"
    journal.write_text(json.dumps({"user_attr": {"imported": f"{GOES.sweep_id}/1"}}))
    deleted = delete_sweep(GOES.sweep_id, workspace)
    assert f"its Optuna study: {STAYS.sweep_id} began with it" in deleted.kept
    left = sweep_folder(GOES, home)
    assert Path(study_storage(GOES, left)).exists()
    assert {path.name for path in left.iterdir()} == {"study.journal", "driver.lock"}


def test_a_sweep_with_a_registered_student_is_refused(workspace: Workspace) -> None:
    client = MlflowClient(workspace.tracking_uri, registry_uri=workspace.tracking_uri)
    trial = open_record(workspace).trials(GOES.sweep_id)[1]
    client.create_registered_model("best-student")
    client.create_model_version("best-student", f"runs:/{trial.run_id}/student", trial.run_id)
    with pytest.raises(PlanError, match="but best-student version 1 is. Delete that in MLflow"):
        plan_deletion(GOES.sweep_id, workspace)
    assert plan_deletion(STAYS.sweep_id, workspace).parts


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server")
    made.start()
    yield made
    made.kill()


@pytest.mark.slow
def test_on_a_server_runs_are_deleted_as_far_as_mlflow_goes(
    server: Server, kd_sweep_home: Path
) -> None:
    there = Workspace(kd_sweep_home, tracking=server.uri)
    kd_sweep_home.mkdir()
    fill(kd_sweep_home, server.uri)
    run_id = open_record(there).trials(GOES.sweep_id)[0].run_id
    planned = plan_deletion(GOES.sweep_id, there)
    assert bytes_of(planned, "runs with their artifacts") is None
    assert "`mlflow gc`" in planned.kept[-1]
    delete_sweep(GOES.sweep_id, there)
    assert names(there) == [STAYS.sweep_id]
    assert MlflowClient(server.uri).get_run(run_id).info.lifecycle_stage == "deleted"
    assert not sweep_folder(GOES, kd_sweep_home).exists()
