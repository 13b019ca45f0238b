"""The built-in text: enough of it, clean, and split so that validation is not training."""

import inspect
import json
from pathlib import Path

import pytest

from trainers.tasks.causal_lm import docstrings
from trainers.tasks.causal_lm.record import Record


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Record]]:
    home = tmp_path_factory.mktemp("home")
    return {split: docstrings.read(split, home) for split in ("train", "validation")}


def test_there_are_thousands_of_pairs_and_no_response_twice(both: dict[str, list[Record]]) -> None:
    assert len(both["train"]) > 2000
    assert len(both["validation"]) > 100
    responses = [record.response for rows in both.values() for record in rows]
    assert len(responses) == len(set(responses))
    assert all(20 <= len(text) <= 400 and text.isascii() for text in responses)


def test_a_known_function_is_described_by_its_own_docstring(both: dict[str, list[Record]]) -> None:
    wanted = [r for r in both["train"] + both["validation"] if "`json.loads(" in r.instruction]
    (record,) = wanted
    documentation = inspect.getdoc(json.loads)
    assert documentation is not None
    assert record.response == " ".join(documentation.split("\n\n")[0].split())


def test_no_package_is_in_both_splits(both: dict[str, list[Record]]) -> None:
    def packages(rows: list[Record]) -> set[str]:
        return {row.instruction.split("`")[1].split(".")[0].split("(")[0] for row in rows}

    assert not packages(both["train"]) & packages(both["validation"])


def test_neighbours_are_of_different_modules(both: dict[str, list[Record]]) -> None:
    modules = [row.instruction.split("`")[1].split(".")[0] for row in both["train"][:50]]
    assert len(set(modules)) > 20


def test_pairs_are_read_from_the_home_folder_the_second_time(tmp_path: Path) -> None:
    folder = tmp_path / "prepared" / "text" / docstrings.fingerprint()[:20]
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text('{"instruction": "kept", "response": "here"}\n')
    assert [row.instruction for row in docstrings.read("train", tmp_path)] == ["kept"]


@pytest.mark.parametrize("content", ["{", "3", '{"instruction": "a"}', '{"response": 3}', None])
def test_damaged_pairs_are_named_with_what_to_do(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "prepared" / "text" / docstrings.fingerprint()[:20]
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "train.jsonl").write_text(content)
    with pytest.raises(ValueError, match=rf"train.jsonl must be as .* Remove {folder}"):
        docstrings.read("train", tmp_path)
