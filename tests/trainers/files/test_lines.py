"""Where a line ends, and what is data inside one."""

import json

import pytest

from trainers.files.lines import numbered_lines

# All that `str.splitlines` takes for the end of a line and JSON does not.
INSIDE = "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e"


@pytest.mark.parametrize("character", INSIDE)
def test_a_line_ends_at_a_newline_alone(character: str) -> None:
    text = json.dumps({"a": f"x{character}y"}, ensure_ascii=False)
    assert list(numbered_lines(f"{text}\n{text}".encode())) == [
        (1, text.encode()),
        (2, text.encode()),
    ]
    raw = f"x{character}y".encode()
    assert list(numbered_lines(raw + b"\n")) == [(1, raw)]


def test_a_byte_order_mark_and_returns_are_no_content() -> None:
    assert list(numbered_lines(b"\xef\xbb\xbfa\r\n\r\nb\rc\r\n")) == [(1, b"a"), (3, b"b\rc")]


def test_blank_lines_are_counted_and_left_out() -> None:
    assert list(numbered_lines(b"\n \t\na\n\n")) == [(3, b"a")]
    assert list(numbered_lines(b"")) == []
