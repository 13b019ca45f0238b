"""Reading instruction data: what is taken, and what is refused with file, line and field."""

import json
from pathlib import Path
from typing import Any

import pytest
from training_support import write_lines

from trainers.tasks.causal_lm import records
from trainers.trial.sources import DataSource


def source(path: Path | str, **changed: Any) -> DataSource:
    return DataSource(train=str(path), validation=str(path), **changed)


def read(path: Path | str, tmp_path: Path, **changed: Any) -> list[records.Record]:
    return records.read(source(path, **changed), "train", tmp_path)


GOOD = {"instruction": "Say hi", "input": "", "output": "hi"}


def test_a_line_becomes_a_record_with_its_references(tmp_path: Path) -> None:
    rows = [GOOD, {**GOOD, "input": "in French", "references": ["salut", "bonjour"]}]
    first, second = read(write_lines(tmp_path / "d.jsonl", rows), tmp_path)
    assert (first.instruction, first.input, first.answers) == ("Say hi", "", ("hi",))
    assert (second.input, second.answers) == ("in French", ("salut", "bonjour"))


def test_columns_have_the_users_names_and_the_limit_is_kept(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", [{"q": f"{i}", "a": "yes"} for i in range(5)])
    columns = {"instruction": "q", "response": "a"}
    rows = read(path, tmp_path, columns=columns, max_train_examples=2)
    assert [row.instruction for row in rows] == ["0", "1"]


def test_blank_lines_are_no_records(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("\n" + json.dumps(GOOD) + "\n\n")
    assert len(read(tmp_path / "d.jsonl", tmp_path)) == 1


@pytest.mark.parametrize(
    ("second_line", "message"),
    [
        ("{not json", r"d.jsonl, line 2: each line must be one JSON object, but got '\{not json'"),
        ("[1]", r"d.jsonl, line 2: a record must be an object, but got list"),
        ('{"instruction": "a", "output": " "}', r"line 2: the response 'output' must not be blank"),
        ('{"instruction": "a"}', r"line 2: 'output' must be text, but got the columns"),
        ('{"instruction": 3, "output": "b"}', r"line 2: 'instruction' must be text, but got int"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, second_line: str, message: str) -> None:
    (tmp_path / "d.jsonl").write_text(json.dumps(GOOD) + "\n" + second_line + "\n")
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "d.jsonl", tmp_path)


def test_a_missing_file_is_named_with_what_could_be_given(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.train: the file must exist, but .*nowhere.jsonl"):
        read(tmp_path / "nowhere.jsonl", tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"data.train: at least one record must be there"):
        read(tmp_path / "d.jsonl", tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"must be UTF-8 text, but got a wrong byte at 0"):
        read(tmp_path / "d.jsonl", tmp_path)


def test_another_builtin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is builtin:docstrings, but got 'builtin:poems'"):
        read("builtin:poems", tmp_path)


def test_a_hub_data_set_without_a_network_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'nobody/nothing' is no file here and could not be"):
        read("nobody/nothing", tmp_path)


def test_a_conversation_must_end_with_the_assistant(tmp_path: Path) -> None:
    asked, answered = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}
    good = write_lines(tmp_path / "good.jsonl", [{"messages": [asked, answered]}])
    record = read(good, tmp_path, template="chat")[0]
    assert (record.instruction, record.response) == ("hi", "ho")
    bad = write_lines(tmp_path / "bad.jsonl", [{"messages": [asked]}])
    with pytest.raises(ValueError, match=r"line 1: messages must end with the assistant's answer"):
        read(bad, tmp_path, template="chat")


def test_real_dolly_reads(shared_data: Path, tmp_path: Path) -> None:
    rows = read(shared_data / "train" / "dolly_validation.jsonl", tmp_path)
    assert len(rows) == 999
    assert all(row.response.strip() and row.instruction.strip() for row in rows)


def test_the_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    one = write_lines(tmp_path / "one.jsonl", [GOOD])
    same = write_lines(tmp_path / "same.jsonl", [GOOD])
    other = write_lines(tmp_path / "other.jsonl", [GOOD, GOOD])
    prints = [records.fingerprint(source(path), "train") for path in (one, same, other)]
    assert prints[0] == prints[1] != prints[2]
