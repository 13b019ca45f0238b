"""What `compare --significance` shows. Pure."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from service.cli.tables import table, value
from service.words import probability

if TYPE_CHECKING:
    from service.results.significance import Significance

SHOWN = 30
NOTHING = "–"
UNTESTED: Mapping[str, Any] = {
    "num_pairs": None,
    "mean_difference": None,
    "low": None,
    "high": None,
    "p_value": None,
    "effect_size": None,
}


def significance_view(found: "Significance") -> RenderableType:
    """Returns the configs against their control, and below what else their seeds say."""
    rows = found.rows()
    more = len(rows) - SHOWN
    examples = [] if found.examples is None else ["by example"]
    headings = (
        "config",
        "seeds",
        found.metric,
        "difference",
        "95 % interval",
        *examples,
        "p (Holm)",
        "verdict",
        "g",
        "p",
        "seeds needed",
    )
    spared = ("p", "g", "seeds needed", "seeds", "95 % interval")
    return Group(
        Text(found.head(), style="bold"),
        table("", headings, [_row(one, bool(examples)) for one in rows[:SHOWN]], spared=spared),
        *([Text(f"{more} more: --json has all")] if more > 0 else []),
        Text(),
        *(Text(line) for line in found.lines()),
    )


def _row(one: Mapping[str, Any], by_example: bool) -> tuple[str, ...]:
    test = one["difference"] or UNTESTED
    return (
        one["name"],
        str(test["num_pairs"] or one["num_seeds"]),
        value(one["mean"]),
        _signed(test["mean_difference"], 4),
        _interval(test),
        *([_interval(one["by_example"] or UNTESTED)] if by_example else []),
        _probability(one["p_holm"]),
        one["verdict"],
        _signed(test["effect_size"], 2),
        _probability(test["p_value"]),
        _seeds_needed(one["seeds_needed"], test["effect_size"]),
    )


def _interval(test: Mapping[str, Any]) -> str:
    return NOTHING if test["low"] is None else f"{test['low']:+.4g} to {test['high']:+.4g}"


def _signed(number: float | None, digits: int) -> str:
    return NOTHING if number is None else f"{number:+.{digits}g}"


def _probability(found: float | None) -> str:
    return NOTHING if found is None else probability(found)


def _seeds_needed(num: int | None, effect_size: float | None) -> str:
    if effect_size is None:
        return NOTHING
    return "> 1,000" if num is None else str(num)
