"""What a record said is kept until something changes in it, whoever changes it."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from records_support import make_store, plan_of, record_sweep

from service.actions import record
from service.actions.kept import MOST, KeptRecord
from service.home import record_file, spool_folder
from service.workspace import Workspace

ROWS: list[tuple[dict[str, Any], dict[str, float]]] = [({"tau": 1.0}, {"rouge_l": 20.0})]
PLAN = plan_of()


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    record_sweep(make_store(tmp_path), tmp_path, PLAN, ROWS)
    return Workspace(tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sweeps whose trials were read, in order."""
    seen: list[str] = []
    read = record.list_trials

    def note(sweep: str, workspace: Workspace) -> record.SweepTrials:
        seen.append(sweep)
        return read(sweep, workspace)

    monkeypatch.setattr(record, "list_trials", note)
    return seen


def scores(kept: KeptRecord) -> list[float]:
    return [one.metrics["rouge_l"] for one in kept.trials(PLAN.sweep_id).rows]


def change(place: Workspace, score: float) -> None:
    with closing(sqlite3.connect(record_file(place.home))) as other, other:
        other.execute("update latest_metrics set value = ?", [score])


def test_it_is_read_again_after_each_change_and_only_then(
    place: Workspace, asked: list[str]
) -> None:
    kept = KeptRecord(place)
    assert [scores(kept) for _ in range(3)] == [[20.0]] * 3 and len(asked) == 1
    for at, score in enumerate((21.0, 22.0, 20.0), start=2):
        change(place, score)
        assert [scores(kept) for _ in range(2)] == [[score]] * 2 and len(asked) == at


def test_what_was_made_of_rows_goes_with_them(place: Workspace) -> None:
    kept = KeptRecord(place)
    kept.trials(PLAN.sweep_id).parts["first"] = b"bytes"
    assert kept.trials(PLAN.sweep_id).parts == {"first": b"bytes"}
    change(place, 21.0)
    assert kept.trials(PLAN.sweep_id).parts == {}


def test_another_file_in_its_place_is_read(place: Workspace, tmp_path: Path) -> None:
    kept = KeptRecord(place)
    assert len(kept.sweeps()) == 1
    other = tmp_path / "other"
    record_sweep(make_store(other), other, plan_of("second"), ROWS)
    record_file(other).replace(record_file(place.home))
    assert [one.name for one in kept.sweeps()] == ["second"]


def test_nothing_is_kept_while_entries_wait_for_the_store(
    place: Workspace, asked: list[str]
) -> None:
    """Whoever reads delivers what a process that is gone left."""
    kept, folder = KeptRecord(place), spool_folder(place.home, place.tracking_uri)
    folder.mkdir(parents=True, exist_ok=True)
    scores(kept)
    (folder / "left.jsonl").write_text("")
    scores(kept)
    assert len(asked) == 2


def test_many_who_ask_at_once_have_it_read_once(place: Workspace, asked: list[str]) -> None:
    kept = KeptRecord(place)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: scores(kept), range(16))) == [[20.0]] * 16
    assert len(asked) == 1


def test_no_more_is_kept_than_of_some_sweeps(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, read = KeptRecord(place), list[str]()

    def note(sweep: str, workspace: Workspace) -> record.SweepTrials:
        read.append(sweep)
        return record.SweepTrials(kept.sweeps()[0], [])

    monkeypatch.setattr(record, "list_trials", note)
    names = [f"sweep-{number}" for number in range(MOST + 1)]
    for name in [*names, names[-1], names[0]]:
        kept.trials(name)
    assert read == [*names, names[0]]
