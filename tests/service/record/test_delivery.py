"""What MLflow refuses for good, and what only looks as if it did."""

import errno
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from records_support import make_sinks, make_store, make_tracker, plan_of, trial_of

from service.errors import TrackingError
from service.home import spool_folder
from service.record import tags
from service.record.client import connect
from service.record.delivery import Delivery
from service.record.entries import (
    Away,
    FileEntry,
    MetricsEntry,
    RunEntry,
    TextEntry,
    Unresolved,
    reference_to,
)
from service.record.runs import Runs
from service.record.store import ensure_store, replay_spool


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return make_store(tmp_path)


def metrics(run: str, name: str = "loss") -> MetricsEntry:
    return MetricsEntry(run=run, at_ms=1, step=1, metrics={name: 1.0})


def run_in(uri: str, home: Path) -> str:
    tracker, plan = make_tracker(uri, home), plan_of()
    sweep = tracker.start_sweep(plan)
    trial = trial_of(plan, 0, {"tau": 2.0})
    run = tracker.start_trial(sweep, trial, hyperparameters={"tau": 2.0}, label=None)
    tracker.close()
    return run


def test_what_is_refused_does_not_hold_up_the_rest(uri: str, tmp_path: Path) -> None:
    run, other = run_in(uri, tmp_path), "0" * 32
    rejected = Delivery(uri, "kd-sweep")([metrics(other), metrics(run)])
    assert [one.entry.run for one in rejected] == [other]
    assert "not found" in rejected[0].reason
    assert Runs(uri).history(run, "loss") == [(1, 1.0)]


def test_a_sink_keeps_what_is_refused(uri: str, tmp_path: Path) -> None:
    sink = make_sinks(uri, tmp_path)("0" * 32)
    sink.log(1, {"loss": 1.0})
    assert sink.close(30)
    assert "not found" in (spool_folder(tmp_path, uri) / "rejected.log").read_text()


def test_a_run_that_is_not_there_yet_is_waited_for(uri: str, tmp_path: Path) -> None:
    delivery = Delivery(uri, "kd-sweep")
    with pytest.raises(Unresolved, match="toy/7 has not been created yet"):
        delivery([metrics(reference_to("toy", 7))])


def test_a_store_that_cannot_be_opened_is_away(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(Away, match="unable to open database file"):
        Delivery(f"sqlite:///{tmp_path}/mlflow.db", "kd-sweep")([metrics("0" * 32)])


def test_a_file_that_is_gone_is_left_out(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, gone = run_in(uri, tmp_path), str(tmp_path / "gone")
    assert Delivery(uri, "kd-sweep")([FileEntry(run=run, at_ms=1, path=gone, folder=None)]) == []
    assert "gone was to be uploaded" in caplog.text


def test_many_metrics_are_cut_into_batches(uri: str, tmp_path: Path) -> None:
    run = run_in(uri, tmp_path)
    entries = [
        MetricsEntry(run=run, at_ms=step, step=step, metrics={"loss": 1.0, "rate": 2.0})
        for step in range(700)
    ]
    assert Delivery(uri, "kd-sweep")(entries) == []
    assert len(Runs(uri).history(run, "rate")) == 700


def test_leftovers_cost_nothing_when_there_are_none(tmp_path: Path) -> None:
    assert replay_spool("http://nobody.invalid", tmp_path) == 0


def test_leftovers_wait_while_the_server_is_away(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "mlflow.db").mkdir()
    folder = spool_folder(tmp_path, uri)
    folder.mkdir(parents=True)
    (folder / "1.jsonl").write_bytes(metrics("0" * 32).model_dump_json().encode() + b"\n")
    assert replay_spool(uri, tmp_path) == 1


class Answer(BaseHTTPRequestHandler):
    """Answers every request with the server's status."""

    def do_GET(self) -> None:
        self.send_response(self.server.status)  # type: ignore[attr-defined]  # set by the test
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        return None


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "must accept this name.*--allowed-hosts"),
        (500, "must be healthy, but got 500"),
        (401, "must be readable.*the credentials"),
    ],
)
def test_a_server_that_refuses_is_explained(
    server: ThreadingHTTPServer, tmp_path: Path, status: int, message: str
) -> None:
    server.status = status  # type: ignore[attr-defined]  # read by the handler
    with pytest.raises(TrackingError, match=message):
        ensure_store(f"http://127.0.0.1:{server.server_port}", tmp_path)


UNDELIVERABLE = {
    "a step that no database holds": {"step": 2**63},
    "a time that no database holds": {"at_ms": 2**63},
    "a name that is none": {"metrics": {"lo\0ss": 1.0}},
    "a name that is too long": {"metrics": {"l" * 5000: 1.0}},
}


@pytest.mark.parametrize("changes", UNDELIVERABLE.values(), ids=UNDELIVERABLE)
def test_what_can_never_be_stored_is_set_aside_alone(
    uri: str, tmp_path: Path, changes: dict[str, Any]
) -> None:
    run = run_in(uri, tmp_path)
    good = [MetricsEntry(run=run, at_ms=n, step=n, metrics={"loss": 1.0}) for n in range(9)]
    bad = good[0].model_copy(update=changes)
    rejected = Delivery(uri, "kd-sweep")([*good[:4], bad, *good[4:]])
    assert [one.entry for one in rejected] == [bad]
    assert Runs(uri).history(run, "loss") == [(n, 1.0) for n in range(9)]


def test_a_file_that_may_not_be_read_is_set_aside(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, secret = run_in(uri, tmp_path), tmp_path / "secret"
    secret.write_text("x")

    def refuse(*arguments: Any) -> None:  # the tests may run as root, who may read everything
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("mlflow.MlflowClient.log_artifact", refuse)
    entry = FileEntry(run=run, at_ms=1, path=str(secret), folder=None)
    rejected = Delivery(uri, "kd-sweep")([entry, metrics(run)])
    assert ["Permission denied" in one.reason for one in rejected] == [True]
    assert Runs(uri).history(run, "loss") == [(1, 1.0)]


def test_a_full_disk_is_waited_for(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_in(uri, tmp_path)

    def fill(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mlflow.MlflowClient.log_text", fill)
    with pytest.raises(Away, match="No space left"):
        Delivery(uri, "kd-sweep")([TextEntry(run=run, at_ms=1, text="x", name="x.txt")])


def test_what_belongs_to_a_refused_run_waits_for_nothing(uri: str, tmp_path: Path) -> None:
    run, other = reference_to("toy", 0), run_in(uri, tmp_path)
    entry = RunEntry(run=run, at_ms=2**63, name="x", tags={})
    rejected = Delivery(uri, "kd-sweep")([entry, metrics(run), metrics(other)])
    assert [one.entry for one in rejected] == [entry, metrics(run)]
    assert Runs(uri).history(other, "loss") == [(1, 1.0)]


def test_a_run_that_never_comes_holds_up_no_other(uri: str, tmp_path: Path) -> None:
    run = run_in(uri, tmp_path)
    with pytest.raises(Unresolved, match="gone/7"):
        Delivery(uri, "kd-sweep")([metrics(reference_to("gone", 7)), metrics(run)])
    assert Runs(uri).history(run, "loss") == [(1, 1.0)]


def test_a_deleted_experiment_is_named(uri: str, tmp_path: Path) -> None:
    run_in(uri, tmp_path)
    client = connect(uri)
    client.delete_experiment(client.get_experiment_by_name("kd-sweep").experiment_id)
    tracker = make_tracker(uri, tmp_path)
    with pytest.raises(TrackingError, match="'kd-sweep' is deleted. Restore it: mlflow exp"):
        tracker.start_sweep(plan_of())
    tracker.close()


def test_a_tag_edited_by_hand_stops_no_sweep(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_in(uri, tmp_path)
    connect(uri).set_tag(run, tags.TRIAL, "first")
    tracker = make_tracker(uri, tmp_path)
    tracker.start_sweep(plan_of())
    tracker.close()
    assert "its number is 'first'" in caplog.text
