"""The record on a real MLflow server that is killed in the middle of a sweep."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_server import Server
from records_support import make_sinks, make_tracker, plan_of, trial_of

from service.errors import TrackingError
from service.home import spool_folder
from service.record.runs import Runs
from service.record.store import ensure_store, replay_spool
from service.states import TrialState

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server")
    made.start()
    yield made
    made.kill()


def test_a_killed_server_costs_nothing_that_was_reported(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, plan = tmp_path / "home", plan_of()
    ensure_store(server.uri, home)
    tracker, sinks = make_tracker(server.uri, home), make_sinks(server.uri, home)
    sweep = tracker.start_sweep(plan)
    values = {"divergence": "forward_kl", "tau": 2.0}

    def start(number: int) -> str:
        trial = trial_of(plan, number, values)
        return tracker.start_trial(sweep, trial, hyperparameters=values, label=None)

    runs = [start(0)]
    sink = sinks(runs[0])
    sink.log(1, {"loss": 3.0})
    (home / "student.txt").write_text("weights")
    sink.upload(home / "student.txt", "student")
    while not Runs(server.uri).history(runs[0], "loss"):
        time.sleep(0.1)
    server.kill()
    sink.log(2, {"loss": 2.0})
    assert not sink.close(30)
    tracker.finish_trial(runs[0], TrialState.COMPLETED, objective=0.3)
    runs.append(start(1))
    assert runs[1].startswith("pending:")
    other = sinks(runs[1])
    other.log(1, {"loss": 1.0})
    assert not other.close(30)
    tracker.finish_trial(runs[1], TrialState.STOPPED_EARLY, objective=0.2)
    tracker.finish_sweep(sweep, TrialState.COMPLETED)
    assert not tracker.close(1)
    with pytest.raises(TrackingError, match="must answer at"):
        ensure_store(server.uri, home)

    server.start()
    assert replay_spool(server.uri, home) == 0
    assert replay_spool(server.uri, home) == 0
    assert not list(spool_folder(home, server.uri).glob("*"))
    assert capsys.readouterr().out == "", "stdout belongs to what --json prints"
    check_what_is_recorded(Runs(server.uri), plan.sweep_id, runs[0], tmp_path)


def check_what_is_recorded(found: Runs, sweep_id: str, first: str, room: Path) -> None:
    trials = found.trials(sweep_id)
    assert [(one.trial, one.state, one.objective) for one in trials] == [
        (0, TrialState.COMPLETED, 0.3),
        (1, TrialState.STOPPED_EARLY, 0.2),
    ]
    assert found.history(first, "loss") == [(1, 3.0), (2, 2.0)]
    assert found.history(trials[1].run_id, "loss") == [(1, 1.0)]
    assert len(MlflowClient(found.uri).get_metric_history(first, "train/loss")) == 2
    student = found.download(first, "student/student.txt", room / "got")
    assert student.read_text() == "weights"
    assert found.resolve_sweep("latest").state == "completed"
    assert [one.trial for one in found.trials(sweep_id)] == [0, 1]
