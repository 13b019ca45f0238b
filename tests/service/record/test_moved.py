"""A home folder that was moved or copied: all that its record names is in the new place."""

import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from records_support import make_store, plan_of, record_sweep, trial_of

from service.home import caches_folder, make_home, record_file, spool_folder, sqlite_uri
from service.plan.places import driver_lock
from service.record.entries import FileEntry
from service.record.moved import follow_move, trial_here
from service.record.names import sweep_names
from service.record.run_entries import sweep_entry
from service.record.runs import Runs
from service.record.spool import SpoolFile
from service.record.store import ensure_store, replay_spool
from trainers.files.store import locked
from trainers.trial.trial_file import TrialPaths

KEY = "0123456789abcdef0123"
ROWS: list[tuple[dict[str, Any], dict[str, float]]] = [({"tau": 1.0}, {"rouge_l": 20.0})]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A home with a sweep of one trial, in a folder whose name a URI and JSON spell otherwise."""
    home = tmp_path / "old höme"
    make_home(home)
    uri = make_store(home)
    record_sweep(uri, home, plan_of(), ROWS)
    return home


def uri_of(home: Path) -> str:
    return sqlite_uri(record_file(home))


def named(home: Path) -> set[str]:
    """Every text of the store that names a folder of this test."""
    with closing(sqlite3.connect(record_file(home))) as database:
        return {line for line in database.iterdump() if home.parent.name in line}


def move(old: Path) -> Path:
    return old.rename(old.with_name("new place"))


def test_a_moved_home_is_read_and_written_in_its_new_place(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = move(old)
    follow_move(uri_of(home), home)
    assert f"{home} was moved or copied from {old}: " in caplog.text
    assert not [line for line in named(home) if "old" in line]
    runs = Runs(uri_of(home), home=home)
    (record,) = runs.trials(plan_of().sweep_id)
    assert runs.trial_file(record.run_id).trial == 0
    # This process knows where a run was that it recorded itself: of another one all is new.
    record_sweep(uri_of(home), home, plan_of("second"), ROWS)
    assert len(list(home.glob("artifacts/kd-sweep/*/artifacts/plan.json"))) == 2
    assert not old.exists()


def test_a_copy_leaves_the_old_home_alone(old: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    home = tmp_path / "copy"
    shutil.copytree(old, home)
    ensure_store(uri_of(home), home)
    record_sweep(uri_of(home), home, plan_of("second"), ROWS)
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before


def test_it_is_told_once(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = move(old)
    follow_move(uri_of(home), home)
    caplog.clear()
    follow_move(uri_of(home), home)
    assert caplog.text == ""


def test_a_home_that_stayed_is_not_touched(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = record_file(old).read_bytes()
    follow_move(uri_of(old), old)
    assert record_file(old).read_bytes() == before
    assert caplog.text == ""


def test_another_name_of_the_same_folder_is_no_move(old: Path, tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"
    old.rename(home)
    old.symlink_to(home)
    before = named(home)
    follow_move(uri_of(home), home)
    assert named(home) == before


def test_an_experiment_with_a_place_of_its_own_keeps_it(old: Path, tmp_path: Path) -> None:
    own = (tmp_path / "elsewhere" / "artifacts" / "own").as_uri()
    MlflowClient(uri_of(old)).create_experiment("own", artifact_location=own)
    follow_move(uri_of(old), old)
    home = move(old)
    follow_move(uri_of(home), home)
    found = MlflowClient(uri_of(home)).get_experiment_by_name("own")
    assert found.artifact_location == own


def test_a_home_in_use_is_left_as_it_is(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = move(old)
    before = named(home)
    with locked(driver_lock(home / "sweeps" / "toy-1")):
        follow_move(uri_of(home), home)
    assert named(home) == before
    assert "it is left so while a sweep runs" in caplog.text


def test_tables_that_are_not_known_are_not_changed(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(record_file(old))) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0badcafe0bad'")
    home = move(old)
    before = named(home)
    follow_move(uri_of(home), home)
    assert named(home) == before
    assert f"its record names {old / 'artifacts'}; it is left so" in caplog.text
    assert sweep_names(record_file(home)) == []


@pytest.mark.parametrize("inside", [True, False])
def test_plans_and_trials_name_files_of_the_home_where_they_are(old: Path, inside: bool) -> None:
    text = f'{{"data": "{old}/data.jsonl", "other": "{old}-2/data.jsonl"}}'
    (plan,) = (path for path in old.rglob("plan.json"))
    plan.write_text(text)
    home = old / "inside" if inside else old.with_name("new place")
    shutil.copytree(old, home)
    shutil.copytree(home, old.with_name("spare"))
    follow_move(uri_of(home), home)
    expected = text.replace(f'"{old}/', f'"{home}/')
    found = home / plan.relative_to(old)
    assert found.read_text() == expected
    # Killed before the store was renamed: the next process does the rest.
    shutil.copy(old.with_name("spare") / "mlflow.db", home / "mlflow.db")
    follow_move(uri_of(home), home)
    assert found.read_text() == expected


def test_what_waits_for_the_store_is_delivered_in_the_new_place(old: Path) -> None:
    (old / "samples.json").write_text("[]")
    run = sweep_entry(plan_of("second"), at_ms=1)
    file = FileEntry(run=run.run, at_ms=2, path=str(old / "samples.json"), folder=None)
    spool = SpoolFile(spool_folder(old, uri_of(old)))
    spool.append([run, file])
    spool.release()
    home = move(old)
    follow_move(uri_of(home), home)
    assert replay_spool(uri_of(home), home) == 0
    assert len(list(home.glob("artifacts/kd-sweep/*/artifacts/samples.json"))) == 1
    assert not old.exists()


def test_a_damaged_store_is_for_whoever_opens_it(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "mlflow.db").write_text("no database")
    follow_move(uri_of(tmp_path), tmp_path)
    assert "not looked at" in caplog.text
    follow_move("http://localhost:1", tmp_path)
    follow_move(uri_of(tmp_path / "missing"), tmp_path)


def test_inputs_that_are_named_by_their_content_are_taken_from_this_home(tmp_path: Path) -> None:
    folders = [f"prepared/data/{KEY}", f"caches/{KEY}", "sweeps/toy-1/own_modules"]
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    recorded = TrialPaths(
        teacher="/models/gpt2",
        student=f"/gone/prepared/students/{KEY}",
        data=f"/gone/{folders[0]}",
        teacher_cache=f"/gone/{folders[1]}",
        own_modules=f"/gone/{folders[2]}",
    )
    trial = trial_of(plan_of(), 0, {}).model_copy(update={"paths": recorded})
    found = trial_here(trial, tmp_path).paths
    assert found.model_dump() == recorded.model_dump() | {
        "data": str(tmp_path / folders[0]),
        "teacher_cache": str(caches_folder(tmp_path) / KEY),
        "own_modules": str(tmp_path / folders[2]),
    }
