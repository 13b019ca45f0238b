"""Lines of text and of JSON Lines, split where they end and nowhere else.

`str.splitlines` also splits at U+2028, U+2029, U+0085 and some control characters, all of which
may stand inside a JSON string.
"""

import codecs
from collections.abc import Iterator


def numbered_lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    r"""Yields the number (from 1) and content of each line that is not blank. A line ends at `\n`
    alone; neither a `\r` before it nor a byte order mark at the start belongs to a line."""
    lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line.removesuffix(b"\r")
