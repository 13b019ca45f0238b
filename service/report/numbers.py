"""Numbers as a report writes them: the values of one column with equally many decimals."""

import math
from collections.abc import Iterable, Sequence

from service.report.page import GAP, Cell

MOST_DECIMALS = 6
DIGITS = 3  # that the spread of a column is shown with


def decimals(values: Iterable[float | None]) -> int:
    """Returns how many decimals show what tells these values apart: three digits of their spread;
    of equal ones, of the value itself."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    spread = max(found, default=0.0) - min(found, default=0.0)
    size = spread or max((abs(value) for value in found), default=0.0)
    if size == 0:
        return 0
    return min(MOST_DECIMALS, max(0, DIGITS - 1 - math.floor(math.log10(size))))


def number_cell(value: float | None, places: int, *, signed: bool = False) -> Cell:
    """Returns a number with so many decimals."""
    if value is None or not math.isfinite(value):
        return Cell(GAP)
    return Cell(minus(f"{value:{'+' if signed else ''}.{places}f}"), value)


def mean_cell(mean: float, half: float | None, places: int) -> Cell:
    """Returns a mean, with half of its interval where there is one."""
    beside = "" if half is None else f" ± {half:.{places}f}"
    return Cell(minus(f"{mean:.{places}f}{beside}"), mean)


def interval_text(low: float, high: float, places: int) -> str:
    """Returns both ends of an interval of differences."""
    return minus(f"{low:+.{places}f} to {high:+.{places}f}")


def minus(text: str) -> str:
    """Returns the text with the minus sign that is as wide as a plus, but for exponents."""
    return text if "e-" in text else text.replace("-", "−")


def columns_of(rows: Sequence[Sequence[float | None]]) -> list[int]:
    """Returns the decimals of each column."""
    return [decimals(column) for column in zip(*rows, strict=True)] if rows else []
