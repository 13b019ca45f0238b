"""The record on a real MLflow store: what is written, once, whatever happens in between."""

import json
import math
import pickle
import platform
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from records_support import make_sinks, make_store, make_tracker, plan_of, trial_of

from service.errors import TrackingError
from service.home import spool_folder
from service.record import tags
from service.record.run_entries import DataSizes
from service.record.store import ensure_store
from service.record.tracking import Tracker
from service.record.views import view_address
from service.states import TrialState
from trainers.trial.trial_file import TrialFile

VALUES = {"divergence": "forward_kl", "policy": "fixed", "tau": 2.1}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def uri_in(home: Path) -> str:
    return f"sqlite:///{home}/mlflow.db"


@pytest.fixture
def uri(home: Path) -> str:
    return make_store(home)


def read(uri: str, run_id: str) -> Run:
    return MlflowClient(uri).get_run(run_id)


def children(uri: str, sweep: str) -> list[Run]:
    client = MlflowClient(uri)
    ids = [one.experiment_id for one in client.search_experiments()]
    return list(client.search_runs(ids, f"tags.`mlflow.parentRunId` = '{sweep}'"))


def test_a_sweep_and_its_trial_can_be_read_back(uri: str, home: Path) -> None:
    plan, tracker = plan_of(), make_tracker(uri, home)
    sweep = tracker.start_sweep(plan)
    run_id = tracker.start_trial(
        sweep, trial_of(plan, 7, VALUES), hyperparameters=VALUES, label=None
    )
    sink = pickle.loads(pickle.dumps(make_sinks(uri, home)))(run_id)
    sink.log(1, {"loss": 2.0})
    sink.log(2, {"loss": math.nan, "rouge_l": 0.5})
    (home / "student").mkdir()
    (home / "student" / "weights").write_text("w")
    sink.upload(home / "student", "student")
    assert sink.close(20)
    tracker.finish_trial(run_id, TrialState.STOPPED_EARLY, objective=0.5, warning="look at it")
    tracker.finish_sweep(sweep, TrialState.COMPLETED)
    assert tracker.close()

    run = read(uri, run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "7 forward_kl fixed tau=2.1"
    assert run.data.params["tau"] == "2.1"
    assert run.data.params["scaling"] == "tau_squared"
    assert run.data.metrics["eval/rouge_l"] == 0.5
    assert run.data.metrics["objective"] == 0.5
    assert math.isnan(run.data.metrics["train/loss"])
    assert run.data.tags["kd_sweep.state"] == "stopped_early"
    assert run.data.tags["kd_sweep.warning"] == "look at it"
    assert run.data.tags["mlflow.parentRunId"] == sweep
    assert {one.dataset.digest for one in run.inputs.dataset_inputs} == {"d" * 32}
    artifacts = MlflowClient(uri).download_artifacts(run_id, "", str(home))
    trial = TrialFile.read(Path(artifacts) / "trial.json")
    assert trial.trial == 7
    # What it ran in is there, and few tags are left for people to read.
    assert trial.fingerprints["teacher"] == "t" * 64
    assert trial.provenance["code_version"] == plan.code_version
    assert trial.provenance["python"] == platform.python_version()
    own = {name for name in run.data.tags if name.startswith("kd_sweep.")}
    assert len(own - {"kd_sweep.warning"}) <= 9, own
    assert (Path(artifacts) / "student" / "weights").read_text() == "w"


def test_a_sweep_says_what_it_tries(uri: str, home: Path) -> None:
    plan, tracker = plan_of(), make_tracker(uri, home)
    sweep = tracker.start_sweep(plan)
    tracker.finish_sweep(sweep, TrialState.COMPLETED)
    assert tracker.close()
    parent = read(uri, sweep)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["kd_sweep.objective_metric"] == "rouge_l"
    assert parent.data.params["search.tau"] == '{"float": [0.5, 8], "log": true}'
    assert parent.data.params["steps"] == "4"
    assert parent.data.params["teacher"] == "a gpt2 from a config"


def test_a_sweep_has_its_data_with_their_sizes_once(uri: str, home: Path) -> None:
    plan, tracker = plan_of(), make_tracker(uri, home)
    sweep = tracker.start_sweep(plan)
    for _ in range(2):  # a driver that died, and the next one
        tracker.describe_data(sweep, {"data": "d" * 64}, DataSizes(100, 4000, 20))
    run = tracker.start_trial(sweep, trial_of(plan, 0, VALUES), hyperparameters=VALUES, label=None)
    assert tracker.close()
    for run_id in sweep, run:
        found = {
            one.dataset.name: json.loads(one.dataset.profile)
            for one in read(uri, run_id).inputs.dataset_inputs
        }
        assert found == {
            "builtin:docstrings (training)": {"num_rows": 100, "num_learned_tokens": 4000},
            "builtin:docstrings (validation)": {"num_rows": 20},
        }
        assert len(read(uri, run_id).inputs.dataset_inputs) == 2


def test_a_sweep_that_is_extended_keeps_its_params_and_gets_its_new_plan(
    uri: str, home: Path
) -> None:
    plan = plan_of()
    first = make_tracker(uri, home)
    sweep = first.start_sweep(plan)
    first.finish_sweep(sweep, TrialState.COMPLETED, {"objective": 0.4, "trials/completed": 6.0})
    assert first.close()
    moved = plan.spec.model_copy(
        update={
            "trials": 9,
            "data": plan.spec.data.model_copy(update={"train": "/elsewhere.jsonl"}),
        }
    )
    second = make_tracker(uri, home)
    assert second.start_sweep(plan.model_copy(update={"spec": moved})) == sweep
    second.tag(sweep, {tags.NOTE: "* what was found"})
    assert second.close()
    assert not list(home.rglob("rejected.log"))
    run = read(uri, sweep)
    assert run.data.params["data.train"] == "builtin:docstrings"
    assert (run.data.metrics["objective"], run.data.metrics["trials/completed"]) == (0.4, 6.0)
    assert run.data.tags["mlflow.note.content"] == "* what was found"
    path = MlflowClient(uri).download_artifacts(sweep, "plan.json", str(home))
    assert json.loads(Path(path).read_text())["spec"]["trials"] == 9


def test_names_of_trials_differ_in_what_lists_show_of_them(uri: str, home: Path) -> None:
    plan, tracker = plan_of(), make_tracker(uri, home)
    sweep = tracker.start_sweep(plan)
    long = {"divergence": "generalized_jsd", "policy": "cist", "rho_per_log_vocab": 0.9784195}
    for number, values in enumerate((long, long | {"seed": 2}, VALUES)):
        trial = trial_of(plan, number, values)
        tracker.start_trial(sweep, trial, hyperparameters=values, label=None)
    assert tracker.close()
    names = [one.info.run_name for one in children(uri, sweep)]
    assert len({name[:30] for name in names}) == 3
    assert max(map(len, names)) <= 64


def test_the_view_of_a_sweep_is_kept_with_its_experiment(uri: str, home: Path) -> None:
    plan, tracker = plan_of(), make_tracker(uri, home)
    tracker.start_sweep(plan)
    tracker.close()
    experiment = MlflowClient(uri).get_experiment_by_name("kd-sweep")
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{plan.sweep_id}"])
    assert f"`kd_sweep.sweep_id` = '{plan.sweep_id}'" in view["searchFilter"]
    assert {"metrics.`objective`", "params.`tau`", "metrics.`eval/rouge_l`"} <= set(
        view["selectedColumns"]
    )
    assert view["columnOrder"][0] == "metrics.`objective`"
    assert view["orderByAsc"] is False
    assert view_address("http://host/", experiment.experiment_id, plan.sweep_id) == (
        f"http://host/#/experiments/{experiment.experiment_id}/runs"
        f"?viewStateShareKey={plan.sweep_id}&workflowType=machine_learning"
    )


def test_a_new_attempt_and_a_new_driver_take_up_the_same_runs(uri: str, home: Path) -> None:
    plan, first = plan_of(), make_tracker(uri, home)
    sweep = first.start_sweep(plan)
    run_id = first.start_trial(
        sweep, trial_of(plan, 0, VALUES), hyperparameters=VALUES, label="a control"
    )
    first.finish_trial(run_id, TrialState.FAILED, error="it broke")
    first.close()

    second = make_tracker(uri, home)
    assert second.start_sweep(plan) == sweep
    again = trial_of(plan, 0, VALUES, attempt=1)
    assert second.start_trial(sweep, again, hyperparameters=VALUES, label=None) == run_id
    run = read(uri, run_id)
    assert (run.info.status, run.data.tags["kd_sweep.attempt"]) == ("RUNNING", "1")
    assert run.data.tags["kd_sweep.state"] == "running"
    assert run.data.tags["kd_sweep.error"] == "it broke"
    assert len(children(uri, sweep)) == 1
    second.close()


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (TrialState.COMPLETED, "FINISHED"),
        (TrialState.DIVERGED, "FAILED"),
        (TrialState.FAILED, "FAILED"),
        (TrialState.CANCELLED, "KILLED"),
    ],
)
def test_final_states(uri: str, home: Path, state: TrialState, status: str) -> None:
    plan, tracker = plan_of(), make_tracker(uri, home)
    sweep = tracker.start_sweep(plan)
    run_id = tracker.start_trial(
        sweep, trial_of(plan, 0, VALUES), hyperparameters=VALUES, label=None
    )
    tracker.finish_trial(run_id, state, objective=math.nan)
    tracker.close()
    assert read(uri, run_id).info.status == status
    assert read(uri, run_id).data.tags["kd_sweep.state"] == state


def test_the_end_of_a_sweep_leaves_nothing_running(uri: str, home: Path) -> None:
    plan, tracker = plan_of(), make_tracker(uri, home)
    sweep = tracker.start_sweep(plan)
    for number in range(2):
        tracker.start_trial(
            sweep, trial_of(plan, number, VALUES), hyperparameters=VALUES, label=None
        )
    tracker.finish_sweep(sweep, TrialState.CANCELLED)
    tracker.close()
    assert {one.info.status for one in [*children(uri, sweep), read(uri, sweep)]} == {"KILLED"}


def test_a_server_that_comes_back_gets_everything_once(uri: str, home: Path) -> None:
    """The store is a file that is made unreadable and readable again; nobody waits for it."""
    plan, tracker = plan_of(), make_tracker(uri, home)
    sweep = tracker.start_sweep(plan)
    file, away = home / "mlflow.db", home / "away.db"
    file.rename(away)
    file.mkdir()
    run = tracker.start_trial(sweep, trial_of(plan, 3, VALUES), hyperparameters=VALUES, label=None)
    assert run == f"pending:{plan.sweep_id}/3"
    sink = make_sinks(uri, home)(run)
    for step in (1, 2, 3):
        sink.log(step, {"loss": 1.0 / step})
    assert not sink.close(10)
    tracker.finish_trial(run, TrialState.COMPLETED, objective=0.25)
    file.rmdir()
    away.rename(file)
    assert tracker.close()
    assert not list(spool_folder(home, uri).glob("*.jsonl"))

    (found,) = children(uri, sweep)
    assert (found.info.status, found.data.metrics["objective"]) == ("FINISHED", 0.25)
    history = MlflowClient(uri).get_metric_history(found.info.run_id, "train/loss")
    assert [(one.step, one.value) for one in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_what_a_killed_process_left_is_delivered_by_the_next_driver(uri: str, home: Path) -> None:
    plan, tracker = plan_of(), make_tracker(uri, home)
    sweep = tracker.start_sweep(plan)
    run = tracker.start_trial(sweep, trial_of(plan, 0, VALUES), hyperparameters=VALUES, label=None)
    tracker.close()
    entry = {"kind": "metrics", "run": run, "at_ms": 5, "step": 9, "metrics": {"loss": 0.5}}
    folder = spool_folder(home, uri)
    folder.mkdir(parents=True, exist_ok=True)
    line = json.dumps(entry)
    (folder / "1.jsonl").write_text(f"{line}\n{line}\n{line[:40]}")
    other = make_tracker(uri, home)
    other.start_sweep(plan)
    other.close()
    history = MlflowClient(uri).get_metric_history(run, "train/loss")
    assert [(one.step, one.value) for one in history] == [(9, 0.5)]
    assert "not an entry" in (folder / "rejected.log").read_text()


def make_in_a_process(home: Path) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from pathlib import Path; from service.record.store import ensure_store; "
        "home = Path(sys.argv[1]); ensure_store(f'sqlite:///{home}/mlflow.db', home)"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(home)], cwd=home.parent)


def test_a_store_that_several_processes_open_first_is_made_once(home: Path) -> None:
    running = [make_in_a_process(home) for _ in range(3)]
    assert [one.wait(timeout=120) for one in running] == [0, 0, 0]
    assert sorted(path.name for path in home.parent.iterdir()) == ["home"]


def test_a_store_whose_making_was_killed_is_made_anew(home: Path) -> None:
    making = make_in_a_process(home)
    while not any(path.stat().st_size for path in home.glob("mlflow.db*")):
        assert making.poll() is None
        time.sleep(0.01)
    making.kill()
    making.wait()
    assert not (home / "mlflow.db").exists()
    ensure_store(uri_in(home), home)
    assert [one.name for one in MlflowClient(uri_in(home)).search_experiments()] == ["Default"]
    assert sorted(path.name for path in home.iterdir()) == ["mlflow.db", "mlflow.lock"]


def test_statistics_are_renewed(uri: str, home: Path) -> None:
    tracker = make_tracker(uri, home)
    tracker.start_sweep(plan_of())
    tracker.analyze()
    tracker.close()
    with sqlite3.connect(home / "mlflow.db") as database:
        assert database.execute("select count(*) from sqlite_stat1").fetchone()[0] > 0


def test_a_server_that_is_not_there_is_named(home: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(TrackingError, match=f"must answer at '{address}'.*Start it"):
        ensure_store(address, home)
    with pytest.raises(TrackingError, match="must answer when a sweep starts"):
        Tracker(address, spool=home / "spool").start_sweep(plan_of())


def test_a_file_that_is_no_store_is_named(home: Path) -> None:
    home.mkdir()
    (home / "mlflow.db").write_text("this is a letter " * 100)
    with pytest.raises(TrackingError, match="must be readable.*not a database.*Move the file"):
        ensure_store(uri_in(home), home)


def test_another_kind_of_store_is_refused(home: Path) -> None:
    with pytest.raises(TrackingError, match="must be sqlite:///FILE.* but got './mlruns'"):
        ensure_store("./mlruns", home)


def test_a_store_that_cannot_be_opened_is_named_at_once(home: Path) -> None:
    (home / "mlflow.db").mkdir(parents=True)
    with pytest.raises(TrackingError, match="must be readable.*unable to open database file"):
        ensure_store(uri_in(home), home)
