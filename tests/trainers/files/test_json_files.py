"""What is wrong with a JSON file is said with its name."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.files.json_files import checked_object, parse_json, read_json, read_object


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1, "b": [2.5], "c": true}')
    assert read_json(path) == {"a": 1, "b": [2.5], "c": True}
    assert read_object(path, {"a": float, "b": list, "c": bool})["a"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.json: must be JSON, but got: Expecting value"),
        (b"\xff\xfe\x00", "a.json: must be JSON"),
        (b"[" * 100_000, "a.json: must be JSON"),
        (b"1" * 5000, "a.json: must be JSON"),
        (b"[1]", r"a.json: must be a JSON object, but got \[1\]"),
        (b"{}", "a.json: a: must be a number, but got nothing"),
        (b'{"a": "1"}', 'a.json: a: must be a number, but got "1"'),
        (b'{"a": true}', "a.json: a: must be a number, but got true"),
        (b'{"a": null}', "a.json: a: must be a number, but got null"),
    ],
)
def test_what_is_wrong_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_object(tmp_path / "a.json", {"a": float})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone.json: must be a file that can be read"):
        read_json(tmp_path / "gone.json")
    with pytest.raises(ValueError, match="must be a file that can be read"):
        read_json(tmp_path)


@given(
    content=st.binary() | st.text().map(lambda text: text.encode(errors="replace")),
    kind=st.sampled_from([str, int, dict]),
)
def test_any_content_is_an_object_or_our_error(content: bytes, kind: type) -> None:
    try:
        found: Any = checked_object(parse_json(content, "here"), "here", {"a": kind})
    except ValueError as error:
        assert str(error).startswith("here: ")
    else:
        assert isinstance(found["a"], kind)
