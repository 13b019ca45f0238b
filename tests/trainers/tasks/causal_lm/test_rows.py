"""Inputs as people have them: each form gives the records, and the prepared data, of JSON Lines."""

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from training_support import request, write_lines

from trainers.tasks.causal_lm import records
from trainers.tasks.causal_lm.facts import FACTS_FILE
from trainers.tasks.causal_lm.inputs import TextKeys
from trainers.tasks.causal_lm.record import Record
from trainers.tasks.causal_lm.writing import DataWriter
from trainers.trial.sources import DataSource

ROWS: list[dict[str, Any]] = [
    {"instruction": "Say hi", "input": "", "output": "hi", "references": ["hi", "hello"]},
    {"instruction": 'Add\r\n1, "2"', "input": "NA", "output": "007", "references": None},
    {"instruction": "null", "input": "a\u2028b\x0bc", "output": "2020-01-01", "references": ["x"]},
]


def read(path: Path, **changed: Any) -> list[Record]:
    source = DataSource(train=str(path), validation=str(path), **changed)
    return records.read(source, "train", path.parent)


def write_array(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False), "utf-8")
    return path


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A spreadsheet's: with a byte order mark, lists as JSON."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    for row in rows:
        lists = {name: json.dumps(cell) for name, cell in row.items() if isinstance(cell, list)}
        writer.writerow(row | lists)
    path.write_text(text.getvalue(), "utf-8-sig", newline="")
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    datasets.Dataset.from_list(rows).to_parquet(str(path))
    return path


def write_folder(path: Path, rows: list[dict[str, Any]]) -> Path:
    datasets.Dataset.from_list(rows).save_to_disk(str(path))
    return path


def write_arrow(path: Path, rows: list[dict[str, Any]]) -> Path:
    (written,) = write_folder(path.with_suffix(""), rows).glob("*.arrow")
    return written.rename(path)


def write_dict(path: Path, rows: list[dict[str, Any]]) -> Path:
    data = datasets.Dataset.from_list(rows)
    datasets.DatasetDict({"train": data, "other": data.select([0])}).save_to_disk(str(path))
    return path


def write_zipped(path: Path, rows: list[dict[str, Any]]) -> Path:
    write = {"jsonl": write_lines, "json": write_array, "csv": write_csv}[path.name.split(".")[1]]
    plain = write(path.with_suffix(""), rows)
    path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


Write = Callable[[Path, list[dict[str, Any]]], Path]
FORMS: dict[str, Write] = {
    "d.json": write_array,
    "d.csv": write_csv,
    "d.parquet": write_parquet,
    "d.arrow": write_arrow,
    "d.jsonl.gz": write_zipped,
    "d.json.gz": write_zipped,
    "d.csv.gz": write_zipped,
    "stored": write_folder,
    "stored_splits": write_dict,
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_holds_the_records_of_json_lines(tmp_path: Path, name: str) -> None:
    wanted = read(write_lines(tmp_path / "lines.jsonl", ROWS))
    assert [(r.instruction, r.input, r.response, r.answers) for r in wanted] == [
        ("Say hi", "", "hi", ("hi", "hello")),
        ('Add\r\n1, "2"', "NA", "007", ("007",)),
        ("null", "a\u2028b\x0bc", "2020-01-01", ("x",)),
    ]
    found = read(FORMS[name](tmp_path / name, ROWS))
    assert found == wanted
    assert all(record.place for record in found)


@pytest.mark.parametrize("name", FORMS)
def test_the_fingerprint_covers_the_bytes_that_are_read(tmp_path: Path, name: str) -> None:
    def fingerprint(folder: str, rows: list[dict[str, Any]]) -> str:
        (tmp_path / folder).mkdir()
        path = FORMS[name](tmp_path / folder / name, rows)
        return records.fingerprint(DataSource(train=str(path), validation=str(path)), "train")

    changed = [ROWS[0] | {"output": "ho"}, *ROWS[1:]]
    first, other = fingerprint("a", ROWS), fingerprint("b", changed)
    assert first != other


def test_the_prepared_data_of_every_form_is_the_same(tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {i}", "input": "", "output": f"so {i}"} for i in range(80)]
    home = tmp_path / "home"

    def prepared(path: Path) -> dict[str, bytes]:
        source = DataSource(train=str(path), validation=str(path), template="Q: {instruction} A: ")
        folder = tmp_path / f"from_{path.name}"
        DataWriter(request(tmp_path, data=source), home).write(folder)
        written = [*folder.rglob("*.arrow"), folder / FACTS_FILE]
        return {str(file.relative_to(folder)): file.read_bytes() for file in written}

    wanted = prepared(write_lines(tmp_path / "lines.jsonl", rows))
    for name in ("d.json", "d.csv", "d.parquet", "d.jsonl.gz", "stored"):
        assert prepared(FORMS[name](tmp_path / name, rows)) == wanted


TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "ho"},
]
SHARED = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "hi"},
    {"from": "gpt", "value": "ho"},
]
SAME_TALK: list[dict[str, Any]] = [
    {"messages": TALK},
    {"messages": SHARED},
    {"conversations": SHARED, "id": "x1"},
    {"conversations": TALK},
    {"prompt": TALK[:2], "completion": TALK[2:]},
    {"prompt": SHARED[:2], "completion": SHARED[2:], "messages": None},
]


@pytest.mark.parametrize("row", SAME_TALK)
@pytest.mark.parametrize("name", ["lines.jsonl", "d.json", "d.parquet", "stored"])
def test_a_conversation_is_the_same_in_every_form(
    tmp_path: Path, name: str, row: dict[str, Any]
) -> None:
    write = FORMS.get(name, write_lines)
    (record,) = read(write(tmp_path / name, [row]), template="chat")
    assert record == Record(instruction="hi", response="ho", messages=tuple(TALK))


def test_csv_holds_conversations_as_json(tmp_path: Path) -> None:
    (record,) = read(write_csv(tmp_path / "d.csv", [{"messages": TALK}]), template="chat")
    assert record.messages == tuple(TALK)


def test_a_prompt_and_a_completion_are_a_pair(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", [{"prompt": "Say hi", "completion": "hi"}])
    for template in ("alpaca", "chat"):
        (record,) = read(path, template=template)
        assert (record.instruction, record.response, record.messages) == ("Say hi", "hi", None)


def test_what_a_template_needs_beside_the_text_is_kept(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "now", "arguments": {"zone": "CET"}}}
    messages = [
        {"role": "user", "content": "time?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "12", "name": "now"},
        {"role": "assistant", "content": "Noon.", "reasoning_content": "12", "weight": 1},
    ]
    tools = [{"type": "function", "function": {"name": "now"}}]
    for given in (tools, json.dumps(tools)):
        path = write_lines(tmp_path / "d.jsonl", [{"messages": messages, "tools": given}])
        (record,) = read(path, template="chat")
        assert record.tools == tools
        assert record.messages == (
            messages[0],
            {"role": "assistant", "content": "", "tool_calls": [call]},
            messages[2],
            {"role": "assistant", "content": "Noon.", "reasoning_content": "12"},
        )


def test_keys_of_data_without_a_config_are_those_of_earlier_versions(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", ROWS)
    source = DataSource(train=str(path), validation="nobody/nothing")
    columns = ("instruction", "input", "output", "references", "messages")
    names = ("instruction", "input", "response", "references", "messages")
    assert TextKeys(request(tmp_path, data=source)).records == {
        "train": hashlib.sha256(path.read_bytes()).hexdigest(),
        "validation": hashlib.sha256(b"hub:nobody/nothing:validation").hexdigest(),
        "source": {
            "train_split": "train",
            "validation_split": "validation",
            "columns": dict(zip(names, columns, strict=True)),
            "template": "alpaca",
            "max_train_examples": None,
            "max_validation_examples": None,
        },
    }
    english = source.model_copy(update={"config_name": "en"})
    other = TextKeys(request(tmp_path, data=english)).records
    assert other["source"]["config_name"] == "en"
    assert other["validation"] == hashlib.sha256(b"hub:nobody/nothing:en:validation").hexdigest()


def damaged(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.json", b'[\n{"instruction": "a", "output": "b"},\n3]', r"line 3, record 2: a record"),
        ("d.json", b'[\n{"instruction": "a", "output": ]', r"line 2, record 1: a record must be"),
        (
            "d.json",
            b'[{"instruction": "a", "output": "b"} {"b": 2}]',
            r"record 1: after a record .* got '\{'",
        ),
        ("d.json", b'[{"instruction": "a", "output": "b"}', r"record 1: after a record .* got ''"),
        ("d.json", b'[{"instruction": "a", "output": "b"}] x', r"nothing may follow .* got 'x'"),
        ("d.json", b'[{"instruction": "a", "output": "b"},]', r"record 2: a record must be one"),
        ("d.json", b"[" * 100_000, r"line 1, record 1: a record must be one JSON object"),
        ("d.json", b"[\xff]", r"d.json must be UTF-8 text, but got a wrong byte at 1"),
        ("d.csv", b"instruction,output\na,b\na,b,c\n", r"line 3: a row must have 2 cells"),
        ("d.csv", b'instruction,output\n"a\nb",c\nd,"e', r"line 4: must be CSV, but got"),
        ("d.csv", b"output,output\na,b\n", r"line 1: a column may be named once"),
        ("d.csv", b"question,output\na,b\n", r"line 2: 'instruction' must be text, but got the"),
        ("d.csv", b"instruction,output,references\na,b,c\n", r"line 2: 'references' must be a li"),
        ("d.csv", b"\xffa,b\n", r"d.csv must be UTF-8 text, but got a wrong byte at 0"),
        ("d.jsonl.gz", b"not gzip", r"d.jsonl.gz must be complete gzip, but got: Not a gzipped"),
        (
            "d.jsonl.gz",
            gzip.compress(b"{}" * 99, mtime=0)[:-9],
            r"must be complete gzip, but got: Compre",
        ),
        ("d.parquet", b"PAR1", r"d.parquet must be a parquet file, but got"),
        ("d.arrow", b"ARROW", r"d.arrow must be an Arrow file, but got"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(damaged(tmp_path, name, content))


def test_numbers_in_a_table_are_no_text(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "d.parquet", [{"instruction": "a", "output": 7}])
    with pytest.raises(ValueError, match=r"d.parquet, row 0: 'output' must be text, but got int 7"):
        read(path)


def test_a_folder_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"save_to_disk .* cloned from a hub, but got"):
        read(tmp_path / "empty")
    stored = write_dict(tmp_path / "stored", ROWS)
    with pytest.raises(ValueError, match=r"must hold the split 'test', but got other, train"):
        read(stored, train_split="test")
    assert len(read(stored, train_split="other")) == 1
    (stored / "train" / "state.json").write_text("{}")
    source = DataSource(train=str(stored), validation=str(stored))
    with pytest.raises(ValueError, match=r"train/state.json must be as save_to_disk wrote it"):
        records.fingerprint(source, "train")
