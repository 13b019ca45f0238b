"""The page of a report as plain values: what a renderer shows, and what `--json` prints."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

GAP = "–"  # of a number that is not there

Value = float | int | str | None
Role = Literal["", "best", "control", "reference"]
# How much the answer is to be relied on.
Confidence = Literal["none", "doubtful", "unconfirmed", "refuted", "chance", "shown", "confirmed"]
VERDICTS: Mapping[Confidence, str] = {
    "none": "no result",
    "doubtful": "doubtful",
    "unconfirmed": "unconfirmed",
    "refuted": "refuted",
    "chance": "not told from chance",
    "shown": "more than chance",
    "confirmed": "confirmed",
}


@dataclass(frozen=True)
class Cell:
    """One cell of a table: what is read, and the number behind it, not rounded."""

    text: str
    value: Value = None

    @property
    def is_gap(self) -> bool:
        """Whether there is no such number."""
        return self.text == GAP


@dataclass(frozen=True)
class Row:
    """One row of a table; role: why it is marked."""

    cells: tuple[Cell, ...]
    role: Role = ""


@dataclass(frozen=True)
class Table:
    """A table. name: unique on the page; command: what makes its numbers again; is_folded: shown
    when its title is opened."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""
    command: str = ""
    is_folded: bool = False

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns are numbers alone, but for gaps."""
        by_column = zip(*(row.cells for row in self.rows), strict=True)
        return tuple(
            any(cell.value is not None for cell in column)
            and all(
                not isinstance(cell.value, str) and (cell.is_gap or cell.value is not None)
                for cell in column
            )
            for column in by_column
        )


@dataclass(frozen=True)
class Chart:
    """A picture. figure: `data` and `layout` as plotly takes them, with colours such as
    `var(--ink)` from the page's palette; is_wide: takes the width of the page; least_width: in
    pixels, below which it scrolls."""

    name: str
    title: str
    figure: Mapping[str, Any]
    caption: str = ""
    command: str = ""
    is_wide: bool = False
    least_width: int = 0


@dataclass(frozen=True)
class Section:
    """A part of the page: sentences, then pictures, then tables."""

    name: str
    title: str
    text: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What was found in two sentences: which config, and how surely. against: what else speaks
    against believing it; beside: what else was found."""

    found: str
    certainty: str
    confidence: Confidence
    against: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    command: str = ""

    @property
    def verdict(self) -> str:
        """How much it is to be relied on, in a word or three."""
        return VERDICTS[self.confidence]


@dataclass(frozen=True)
class Page:
    """A report. subtitle: what ran and when; footer: what it was made with."""

    sweep_id: str
    title: str
    subtitle: str
    answer: Answer
    sections: tuple[Section, ...]
    footer: str = ""

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All pictures, in order."""
        return tuple(chart for section in self.sections for chart in section.charts)

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables, in order."""
        return tuple(table for section in self.sections for table in section.tables)

    def to_json(self) -> dict[str, Any]:
        """Returns the page as one JSON object."""
        return asdict(self)
