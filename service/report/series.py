"""Which line of a chart a trial belongs to, and where it stands on a temperature's axis. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from search_spaces.numbers import is_number
from service.record.records import RunRecord
from service.report.charts import OTHER, style_of
from service.report.palette import NUM_SERIES
from service.report.source import Source

# Policies that the name of a line need not say: the axis does.
PLAIN = ("fixed", "cist")
# Of a trial's hyperparameters those that a line's name or an axis has in another form.
SAID = ("divergence", "policy")


@dataclass(frozen=True)
class TemperatureAxis:
    """A hyperparameter that plays the temperature's part."""

    field: str
    title: str
    name: str


AXES = (
    TemperatureAxis("tau", "temperature tau", "tau"),
    TemperatureAxis("rho", "CIST ratio rho", "rho"),
    TemperatureAxis("rho_per_log_vocab", "CIST ratio rho / ln V", "c"),
)


def place_on(record: RunRecord, axis: TemperatureAxis) -> float | None:
    """Returns the trial's temperature; None where it has none. The hard loss alone has one in its
    config, but does not use it."""
    value: Any = record.config.get(axis.field)
    if not is_number(value) or is_hard_only(record):
        return None
    return float(value) if value > 0 else None


def is_hard_only(record: RunRecord) -> bool:
    """Whether the teacher is not asked."""
    return record.config.get("soft_weight") == 0 and not record.config.get("sequence_term")


def series_of(record: RunRecord) -> str:
    """Returns the name of a trial's line: its divergence, the policy where that is another one than
    the axis says, and what else it was given that is no number: variants, whose mean would be of
    nothing that was trained."""
    policy = str(record.config.get("policy"))
    divergence = str(record.config.get("divergence"))
    if policy == "fixed_teacher":
        divergence += ", teacher only"
    elif policy not in PLAIN:
        divergence += f", {policy.replace('_', ' ')}"
    return ", ".join([divergence, *_variants(record)])


def _variants(record: RunRecord) -> list[str]:
    """Returns e.g. `scaling none`, `detach student temperature`, `not detach mixture`."""
    given = sorted(record.hyperparameters.items())
    return [
        _in_words(name.replace("_", " "), value)
        for name, value in given
        if name not in SAID and isinstance(value, str | bool)
    ]


def _in_words(name: str, value: str | bool) -> str:
    if isinstance(value, bool):
        return name if value else f"not {name}"
    return f"{name} {value.replace('_', ' ')}"


@dataclass(frozen=True)
class Styles:
    """Which lines have a colour of their own, in the order of their names."""

    names: tuple[str, ...]

    def name(self, series: str) -> str:
        """Returns what the legend calls it."""
        return series if series in self.names else OTHER

    def of(self, series: str) -> tuple[str, str, str]:
        """Returns colour, shape and dash."""
        return style_of(self.names.index(series) if series in self.names else None)


def styles(source: Source) -> Styles:
    """Returns the styles of a sweep, the same in all of its charts: curves whose crossing is looked
    for come first, then the best line on each axis in turn, so that no chart is grey."""
    known = [*(one.typical for one in source.ranked), *source.shown]
    on_axes = [
        dict.fromkeys(series_of(one) for one in known if place_on(one, axis) is not None)
        for axis in AXES
    ]
    in_turn = [name for names in zip_longest(*on_axes) for name in names if name is not None]
    pairs = () if source.significance is None else source.significance.crossovers
    crossed = [name for pair in pairs for name in (pair.first, pair.second) if name in in_turn]
    return Styles(tuple(sorted(list(dict.fromkeys([*crossed, *in_turn]))[:NUM_SERIES])))


def grouped(records: Sequence[RunRecord], axis: TemperatureAxis) -> dict[str, list[RunRecord]]:
    """Returns the trials on an axis by their lines, along it."""
    found = [(place, one) for one in records if (place := place_on(one, axis)) is not None]
    groups: dict[str, list[RunRecord]] = {}
    for _, record in sorted(found, key=lambda pair: (pair[0], pair[1].trial)):
        groups.setdefault(series_of(record), []).append(record)
    return dict(sorted(groups.items()))
