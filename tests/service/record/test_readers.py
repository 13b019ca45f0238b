"""One store, read by SQL, by REST and by MLflow's client: the same answers."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.store.db.utils import _get_latest_schema_revision
from mlflow_server import Server
from records_support import make_store

from service.errors import TrackingError
from service.home import sqlite_uri
from service.record.client_reader import ClientReader
from service.record.open_reader import open_reader
from service.record.reading import Point, Reader, Search, StoredRun
from service.record.rest_reader import RestReader
from service.record.schema import KNOWN_SCHEMAS
from service.record.sql_reader import SqlReader

SWEEP, KIND = "kd_sweep.sweep_id", "kd_sweep.kind"
ODD_TEXTS = {
    "long": "x" * 5900,
    "unicode": "ä→漢字 🙂",
    "quote": "it's \\ `ok`",
    "quotes": 'it\'s "so"',
    "empty": "",
    "json": '{"a": [1, 2]}',
    "spaces": "  two\nlines\t\x01\x7f ",
}
NUMBERS = {"nan": math.nan, "inf": math.inf, "minus": -math.inf, "tiny": 5e-324, "third": 1 / 3}


def fill(uri: str) -> dict[str, str]:
    """Writes runs of every odd kind with MLflow's client; returns name → id."""
    client = MlflowClient(uri)
    places = {name: client.create_experiment(name) for name in ("mine", "gone", "ä ' `")}
    made = {}
    for number, (name, place) in enumerate(
        [("odd", "mine"), ("plain", "mine"), ("deleted", "mine"), ("other", "ä ' `"), ("x", "gone")]
    ):
        run = client.create_run(places[place], start_time=1000 + number // 2, run_name=name)
        made[name] = run.info.run_id
        client.log_batch(
            made[name],
            params=[Param("tau", f"{number}.5"), Param("divergence", "forward_kl")],
            tags=[RunTag(SWEEP, f"s-{number % 2}"), RunTag(KIND, "trial")],
            metrics=[Metric("loss", 3.0 - step, 10 + step, step) for step in range(3)],
        )
    client.log_batch(
        made["odd"],
        params=[Param(f"p.{name}", text) for name, text in ODD_TEXTS.items() if text],
        tags=[RunTag(f"t.{name}", text) for name, text in ODD_TEXTS.items()],
        metrics=[Metric(name, value, 5, 1) for name, value in NUMBERS.items()],
    )
    for name, status in (("odd", "READY"), ("plain", "PENDING")):
        place = client.get_run(made[name]).info.experiment_id
        model = client.create_logged_model(place, name="student", source_run_id=made[name])
        if status == "READY":
            client.finalize_logged_model(model.model_id, status)
    client.log_metric(made["odd"], "loss", math.nan, timestamp=99, step=2)
    client.set_terminated(made["plain"], "FINISHED", end_time=2000)
    client.delete_run(made["deleted"])
    client.delete_experiment(places["gone"])
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    uri = make_store(tmp_path_factory.mktemp("readers") / "100%41?")
    return uri, fill(uri)


SEARCHES = {
    "all": {},
    "a tag": {SWEEP: "s-0"},
    "two tags": {KIND: "trial", SWEEP: "s-1"},
    "a text with a quote": {"t.quote": ODD_TEXTS["quote"]},
    "a text with both": {"t.quotes": ODD_TEXTS["quotes"]},
    "another with both": {"t.quotes": "'\""},
    "unicode": {"t.unicode": ODD_TEXTS["unicode"]},
    "no such value": {KIND: "TRIAL"},
}


def comparable(run: StoredRun) -> StoredRun:
    """The run with its numbers as texts: NaN is not equal to itself."""
    return replace(run, metrics={name: repr(value) for name, value in run.metrics.items()})  # type: ignore[misc]


def answers(reader: Reader, made: dict[str, str]) -> dict[str, object]:
    """All that a reader can be asked."""
    places = [one.experiment_id for one in reader.experiments()]
    found: dict[str, object] = {
        name: [comparable(run) for run in reader.runs(Search(places, wanted))]
        for name, wanted in SEARCHES.items()
    }
    for name in ("odd", "deleted"):
        for begin in (made[name], made[name][:9], made[name][:9].upper() + "Z"):
            search = Search(places, begins=begin)
            found[f"begins {begin}"] = [run.run_id for run in reader.runs(search)]
    found["nowhere"] = list(reader.runs(Search(())))
    found["active"] = sorted(reader.experiments())
    found["deleted"] = sorted(reader.experiments(deleted=True))
    found["places"] = [reader.artifact_place(made[name]) for name in ("odd", "deleted")]
    for name in ("odd", "plain", "other"):
        found[f"models of {name}"] = reader.models(made[name])
    for metric in ("loss", "inf", "absent"):
        found[metric] = sorted(map(repr, reader.history(made["odd"], metric)))
    return found


def test_sql_answers_what_mlflow_answers(store: tuple[str, dict[str, str]]) -> None:
    uri, made = store
    by_sql, by_mlflow = answers(SqlReader(uri), made), answers(ClientReader(uri), made)
    assert by_sql == by_mlflow
    assert by_sql["a text with a quote"] == by_sql["a text with both"] != []
    states = [by_sql[f"models of {name}"] for name in ("odd", "plain", "other")]
    assert [[one.is_ready for one in found] for found in states] == [[True], [False], []]  # type: ignore[attr-defined]
    newest, *rest = SqlReader(uri).runs(Search(["1", "3"]))
    assert newest.name == "other"
    assert [run.run_id for run in rest] == sorted(made[name] for name in ("odd", "plain"))


def test_what_sql_reads_is_what_was_written(store: tuple[str, dict[str, str]]) -> None:
    uri, made = store
    reader = SqlReader(uri)
    (run,) = reader.runs(Search(["1"], begins=made["odd"]))
    assert {name.removeprefix("t."): text for name, text in run.tags.items()}.items() >= (
        ODD_TEXTS.items()
    )
    assert run.params["p.long"] == ODD_TEXTS["long"]
    assert (run.started_ms, run.ended_ms, run.status) == (1000, None, "RUNNING")
    assert math.isnan(run.metrics["nan"])
    assert run.metrics["third"] == 1 / 3
    assert run.metrics["inf"] > 1e308  # MLflow keeps an infinity as the largest number
    points = sorted(reader.history(made["odd"], "loss"))
    assert points[:3] == [Point(0, 3.0, 10), Point(1, 2.0, 11), Point(2, 1.0, 12)]
    assert points[3][::2] == (2, 99)
    assert math.isnan(points[3].value)


def test_pages_follow_each_other(
    store: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, _ = store
    whole = [run.run_id for run in SqlReader(uri).runs(Search(["1", "3"]))]
    for module in ("sql_reader", "client_reader"):
        monkeypatch.setattr(f"service.record.{module}.PAGE", 2)
    for reader in (SqlReader(uri), ClientReader(uri)):
        assert [run.run_id for run in reader.runs(Search(["1", "3"]))] == whole


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server")
    made.start()
    yield made
    made.kill()


@pytest.mark.slow
def test_a_server_answers_what_its_store_does(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fill(server.store)
    by_sql = answers(SqlReader(server.store), made)
    assert answers(RestReader(server.uri), made) == by_sql
    assert answers(ClientReader(server.uri), made) == by_sql
    monkeypatch.setattr("service.record.rest_reader.PAGE", 2)
    assert answers(RestReader(f"{server.uri}/"), made) == by_sql


def test_a_run_that_is_not_there_is_named(store: tuple[str, dict[str, str]]) -> None:
    for reader in (SqlReader(store[0]), ClientReader(store[0])):
        with pytest.raises(TrackingError, match="must answer, but got: .*'0badcafe'|0badcafe.*not"):
            reader.artifact_place("0badcafe")


def test_the_schema_is_that_of_the_mlflow_that_writes() -> None:
    assert _get_latest_schema_revision() in KNOWN_SCHEMAS


def test_the_quickest_way_is_chosen(
    store: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(open_reader(store[0]), SqlReader)
    assert isinstance(open_reader("https://mlflow.invalid"), RestReader)
    monkeypatch.setenv("MLFLOW_TRACKING_AWS_SIGV4", "true")
    assert isinstance(open_reader("https://mlflow.invalid"), ClientReader)


def test_a_store_that_is_not_made_is_empty_and_stays_so(tmp_path: Path) -> None:
    reader = open_reader(f"sqlite:///{tmp_path}/mlflow.db")
    assert reader.experiments() == []
    assert not list(reader.runs(Search(())))
    assert not list(tmp_path.iterdir())
    (tmp_path / "empty.db").touch()
    assert open_reader(f"sqlite:///{tmp_path}/empty.db").experiments(deleted=True) == []


def test_another_schema_is_mlflows_business(tmp_path: Path) -> None:
    uri = make_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("update alembic_version set version_num = 'f5a4f2784254'")
    command = f"Make a copy of it, then run: mlflow db upgrade {uri}"
    with pytest.raises(TrackingError, match=f"up to date.* version f5a4f2784254.*{command}"):
        open_reader(uri)


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "letter.db").write_text("this is a letter " * 100)
    with pytest.raises(TrackingError, match="must be readable.*not a database.*Move the file"):
        open_reader(f"sqlite:///{tmp_path}/letter.db")
    with pytest.raises(TrackingError, match="must be readable.*unable to open database file"):
        open_reader(f"sqlite:///{tmp_path}/nowhere/mlflow.db")
    with pytest.raises(
        TrackingError, match=r"//u:\*\*\*@127.*got: No module.*kd-sweep\[postgres\]"
    ):
        open_reader("postgresql+pg8000://u:hidden@127.0.0.1:9/x")


def test_a_store_that_another_process_locks_is_named(tmp_path: Path) -> None:
    uri = f"{make_store(tmp_path)}?timeout=0.1"
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("begin exclusive")
        with pytest.raises(TrackingError, match="is locked. Another process writes to it"):
            open_reader(uri)
    assert open_reader(uri).experiments()


def test_a_file_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    uri = make_store(tmp_path)
    (tmp_path / "mlflow.db").chmod(0o400)
    assert [one.name for one in open_reader(uri).experiments()] == ["Default"]
    assert sqlite_uri(tmp_path / "mlflow.db") == uri
