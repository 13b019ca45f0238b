"""Whatever a file holds: records as they were written, or an error that names file and line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.tasks.causal_lm import records
from trainers.tasks.causal_lm.record import Record
from trainers.trial.sources import DataSource

GOOD = {"instruction": "Say hi", "output": "hi"}
TEMPLATES = st.sampled_from(["alpaca", "chat"])

# With halves of surrogate pairs, and with all that other readers split lines at.
ANY_TEXT = st.text(st.characters() | st.sampled_from("\u2028\x85\x0b\x1c\r\n\t\ud83d\ude00"))
TEXT = st.text()
RESPONSE = TEXT.filter(lambda text: bool(text.strip()))
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
COLUMNS = st.sampled_from(
    ["instruction", "input", "output", "references", "messages", "conversations", "tools"]
    + ["prompt", "completion"]
)
KEYS = st.sampled_from(["role", "content", "from", "value", "tool_calls", "name"])
ROLES = st.sampled_from(["user", "assistant", "system", "human", "gpt"])
MESSAGE = st.dictionaries(KEYS, ROLES | ANY_TEXT | ANY_JSON, max_size=4)
ANY_COLUMN = ANY_TEXT | st.lists(ANY_TEXT) | st.lists(MESSAGE, max_size=3) | ANY_JSON


def talks(role: str, content: str, asking: str, answering: str) -> st.SearchStrategy[Any]:
    """Conversations that end with an answer, by the names of a message's keys and roles."""
    said = st.fixed_dictionaries({role: st.sampled_from([asking, answering]), content: TEXT})
    answer = st.fixed_dictionaries({role: st.just(answering), content: RESPONSE})
    return st.builds(lambda before, last: [*before, last], st.lists(said, max_size=3), answer)


TALK = talks("role", "content", "user", "assistant")
GOOD_ROW = st.one_of(
    st.fixed_dictionaries(
        {"instruction": TEXT, "output": RESPONSE},
        optional={"input": TEXT, "references": st.lists(TEXT)},
    ),
    st.fixed_dictionaries({"prompt": TEXT, "completion": RESPONSE}),
    st.fixed_dictionaries({"prompt": TALK, "completion": TALK}),
    st.fixed_dictionaries({"messages": TALK}, optional={"references": st.lists(TEXT)}),
    st.fixed_dictionaries({"conversations": talks("from", "value", "human", "gpt")}),
)
NEARLY_GOOD_ROW = st.builds(
    lambda row, changed: row | changed,
    GOOD_ROW,
    st.dictionaries(COLUMNS, ANY_COLUMN, max_size=1),
)
ANY_ROW = ANY_JSON | st.dictionaries(COLUMNS, ANY_COLUMN) | NEARLY_GOOD_ROW
PAIRS = st.builds(
    lambda i, r, x, refs: Record(instruction=i, response=r, input=x, references=tuple(refs)),
    TEXT,
    RESPONSE,
    TEXT,
    st.lists(TEXT, max_size=3),
)


def read(path: Path, template: str = "alpaca") -> list[Record]:
    source = DataSource(train=str(path), validation=str(path), template=template)
    return records.read(source, "train", path.parent)


def as_row(record: Record) -> dict[str, Any]:
    return {
        "instruction": record.instruction,
        "input": record.input,
        "output": record.response,
        "references": list(record.references),
    }


@given(ANY_ROW, TEMPLATES, st.booleans())
def test_any_value_is_a_record_or_an_error_with_its_line(
    tmp_path_factory: pytest.TempPathFactory, row: Any, template: str, is_ascii: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    line = json.dumps(row, ensure_ascii=is_ascii)
    path.write_bytes(f"{json.dumps(GOOD)}\n{line}".encode(errors="surrogatepass"))
    try:
        first, second = read(path, template)
    except ValueError as error:
        assert f"{path}, line 2" in str(error)
        assert type(error) is ValueError
        str(error).encode()
        return
    assert first == Record(instruction="Say hi", response="hi")
    assert isinstance(row, dict)
    assert any(second.response in (row.get(name), last(row.get(name))) for name in row)
    if second.messages is None:
        assert all(one in (row.get("references") or ()) for one in second.references)


def last(messages: Any) -> Any:
    """The text of the last message, if these are messages."""
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return None
    return messages[-1].get("content", messages[-1].get("value"))


@given(st.lists(PAIRS, min_size=1, max_size=4), st.booleans())
def test_what_is_written_comes_back_equal(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[Record], is_ascii: bool
) -> None:
    folder = tmp_path_factory.getbasetemp()
    rows = [json.dumps(as_row(record), ensure_ascii=is_ascii) for record in wanted]
    (folder / "some.jsonl").write_bytes("\r\n".join(rows).encode("utf-8-sig"))
    (folder / "some.json").write_bytes(f"[{', '.join(rows)}]".encode())
    (folder / "some.jsonl.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    for name in ("some.jsonl", "some.json", "some.jsonl.gz"):
        assert read(folder / name) == wanted


@given(
    st.binary(max_size=60) | ANY_TEXT.map(lambda text: text.encode(errors="surrogatepass")),
    st.sampled_from(["", "[", json.dumps(GOOD) + "\n", "instruction,output\n", "\ufeff"]),
    st.sampled_from(["d.jsonl", "d.json", "d.csv", "d.txt", "d.jsonl.gz", "d.csv.gz"]),
    st.booleans(),
)
def test_any_bytes_are_records_or_an_error_with_their_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, start: str, name: str, is_packed: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    content = start.encode() + content
    path.write_bytes(gzip.compress(content) if is_packed else content)
    try:
        assert all(record.response.strip() for record in read(path))
    except ValueError as error:
        assert str(path) in str(error)
        assert type(error) is ValueError
