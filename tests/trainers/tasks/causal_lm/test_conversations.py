"""What stands beside a conversation, and contents that are lists of parts."""

from pathlib import Path
from typing import Any

import pytest
from training_support import write_lines

from trainers.tasks.causal_lm import records, templates
from trainers.trial.sources import DataSource

SHARED = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]
TALK = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
TOLD = {"role": "system", "content": "Be brief"}


def turns(folder: Path, row: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages that the chat template gets of a record."""
    path = str(write_lines(folder / "d.jsonl", [row]))
    source = DataSource(train=path, validation=path, template="chat")
    (record,) = records.read(source, "train", folder)
    return templates._messages(record)


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": SHARED},
        {"messages": TALK},
        {"prompt": TALK[:1], "completion": TALK[1:]},
        {"instruction": "Hello", "output": "Hi"},
        {"prompt": "Hello", "completion": "Hi"},
    ],
)
def test_a_system_beside_a_conversation_is_its_first_turn(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    assert turns(tmp_path, row | {"system": "Be brief"}) == [TOLD, *TALK]
    for nothing in ("", None):
        assert turns(tmp_path, row | {"system": nothing}) == TALK
    with pytest.raises(ValueError, match=r"d\.jsonl, line 1: 'system' must be text, but got int 3"):
        turns(tmp_path, row | {"system": 3})


def test_a_system_is_told_once(tmp_path: Path) -> None:
    told = {"from": "system", "value": "Be brief"}
    row = {"conversations": [told, *SHARED]}
    assert turns(tmp_path, row) == turns(tmp_path, row | {"system": "Be brief"}) == [TOLD, *TALK]
    with pytest.raises(ValueError, match=r"line 1: 'system' must not stand beside .*'Be long'"):
        turns(tmp_path, row | {"system": "Be long"})


def part(text: str) -> dict[str, Any]:
    # a table has a cell for each key that any part has
    return {"type": "text", "text": text, "image_url": None}


def test_parts_of_a_content_are_joined(tmp_path: Path) -> None:
    row: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": [part("Be "), part("brief")]},
            {"role": "user", "content": [part("Hello")]},
            {"role": "assistant", "content": [part("H"), part(""), part("i")]},
        ]
    }
    assert turns(tmp_path, row) == [TOLD, *TALK]
    shared = [SHARED[0] | {"value": [part("Hello")]}, SHARED[1]]
    assert turns(tmp_path, {"conversations": shared}) == TALK


@pytest.mark.parametrize(
    "wrong", [{"type": "image_url", "image_url": "x"}, {"type": "text"}, "Hello", 3, [], None]
)
def test_parts_of_other_kinds_are_refused_with_their_place(tmp_path: Path, wrong: Any) -> None:
    messages = [{"role": "user", "content": [part("See"), wrong]}, TALK[1]]
    rule = r"d\.jsonl, line 1: 'messages\[0\]\.content\[1\]' must be \{type: text, text\}"
    with pytest.raises(ValueError, match=rule):
        turns(tmp_path, {"messages": messages})
