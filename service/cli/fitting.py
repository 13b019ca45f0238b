"""Tables that fit the screen without breaking a word: a column is as narrow as its longest word,
one that can be spared is left out and named below, and where even that is too wide each row is
shown as lines of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.text import Text

GAP = 2  # between two columns
SHORT = 14  # what is no longer than this, such as `1 h 20 min`, stays on one line


@dataclass(frozen=True)
class FittedTable:
    """A table without lines. headings: all empty for none; rows: as many cells each as there are
    headings; spared: the headings of columns that go when the screen is too narrow, the last one
    first."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Text]]
    spared: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for left_out in range(len(self.spared) + 1):
            gone = self.spared[len(self.spared) - left_out :]
            columns = [n for n, heading in enumerate(self.headings) if heading not in gone]
            needs = [self._need(column) for column in columns]
            found = widths(needs, options.max_width - GAP * (len(columns) - 1))
            if found is not None:
                yield from self._lines(console, columns, found)
                if gone:
                    yield Text(f"no room for: {', '.join(gone)}", style="dim")
                return
        yield from self._stacked()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        needs = [self._need(column) for column in range(len(self.headings))]
        gaps = GAP * (len(needs) - 1)
        return Measurement(
            sum(need.minimum for need in needs) + gaps, sum(need.maximum for need in needs) + gaps
        ).with_maximum(options.max_width)

    def _need(self, column: int) -> Measurement:
        """Returns the widths of the column's longest word and of its longest cell."""
        cells = [self.headings[column], *(row[column].plain for row in self.rows)]
        return Measurement(max(map(_longest_word, cells)), max(map(cell_len, cells)))

    def _lines(
        self, console: Console, columns: Sequence[int], found: Sequence[int]
    ) -> Iterator[Segment]:
        # Rich's own table takes 0.3 ms a row, 3 s for as many trials as a sweep may have.
        if any(self.headings):
            yield from _line(console, [Text(self.headings[n], "bold") for n in columns], found)
        for row in self.rows:
            yield from _line(console, [row[n] for n in columns], found)

    def _stacked(self) -> Iterator[Text]:
        """Yields a line for each cell that is not empty; the first of a row is not indented."""
        for row in self.rows:
            for number, (heading, cell) in enumerate(zip(self.headings, row, strict=True)):
                if cell.plain.strip():
                    name = f"{heading}  " if heading else ""
                    yield Text.assemble("  " if number else "", (name, "bold"), cell)


def _line(console: Console, cells: Sequence[Text], found: Sequence[int]) -> Iterator[Segment]:
    """Yields a row: one line, or as many as its longest cell is wrapped to."""
    blocks = [
        cell.wrap(console, width) if cell_len(cell.plain) > width or "\n" in cell.plain else [cell]
        for cell, width in zip(cells, found, strict=True)
    ]
    for parts in zip_longest(*blocks, fillvalue=Text()):
        behind = 0  # spaces that are due before the next text
        for part, width in zip(parts, found, strict=True):
            text = part.plain.rstrip()
            if text:
                yield Segment(" " * behind)
                yield Segment(text, console.get_style(part.style) if part.style else None)
                behind = 0
            behind += width - cell_len(text) + GAP
        yield Segment.line()


def _longest_word(text: str) -> int:
    whole = cell_len(text)
    return whole if whole <= SHORT else max(map(cell_len, text.split()), default=0)


def widths(needs: Sequence[Measurement], room: int) -> list[int] | None:
    """Returns the columns' widths, each between its longest word and its longest cell, that share
    `room` as evenly as that allows; None where it cannot hold the longest words."""
    for level in range(room, -1, -1):
        found = [min(max(level, need.minimum), need.maximum) for need in needs]
        if sum(found) <= room:
            return found
    return None
