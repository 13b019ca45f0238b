"""Where a value lies in what was searched: at an end of it, the best may lie beyond. Pure."""

import math
from dataclasses import dataclass

from search_spaces.domains import Choice, Domain, Float, Int
from search_spaces.numbers import is_number

# One value in twenty that is drawn at random lies so near to a given end.
MARGIN = 0.05
# Of two numbers each is an end, which says nothing.
FEWEST_VALUES = 3


@dataclass(frozen=True)
class Edge:
    """The end (lower | upper) of a range from `low` to `high` at which a value lies."""

    end: str
    low: float
    high: float

    def has_more(self, least: float, most: float) -> bool:
        """Whether anything lies beyond it in the range from `least` to `most`."""
        return self.low > least if self.end == "lower" else self.high < most


def edge_of(value: object, domain: Domain) -> Edge | None:
    """Returns the end at which `value` lies: in the first or last twentieth of a range, in its own
    scale, or the first or last of three or more numbers; None between them, and where values have
    no order."""
    size = domain.size()
    if not is_number(value) or (size is not None and size < FEWEST_VALUES):
        return None
    number = float(value)  # type: ignore[arg-type]
    if isinstance(domain, Float | Int):
        low, high = float(domain.low), float(domain.high)
        return _edge(_place(number, low, high, log=domain.log), low, high)
    if isinstance(domain, Choice) and all(is_number(one) for one in domain.choice):
        low, high = float(min(domain.choice)), float(max(domain.choice))
        return _edge(float({low: 0.0, high: 1.0}.get(number, 0.5)), low, high)
    return None


def _place(number: float, low: float, high: float, *, log: bool) -> float:
    """Returns the share of the range that lies below the number."""
    if log:
        number, low, high = (math.log(max(one, low)) for one in (number, low, high))
    return number / (high - low) - low / (high - low)


def _edge(place: float, low: float, high: float) -> Edge | None:
    if not -MARGIN <= place <= 1 + MARGIN or MARGIN < place < 1 - MARGIN:
        return None
    return Edge("lower" if place < 0.5 else "upper", low, high)
