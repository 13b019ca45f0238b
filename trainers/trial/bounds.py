"""The widest range of numbers that a field of a trial may have."""

import math
from collections.abc import Iterator

from annotated_types import Ge, Le

from trainers.trial.catalogue import DIVERGENCES, OPTIONS, POLICIES
from trainers.trial.config import TrialConfig
from trainers.trial.sequence_terms import SEQUENCE_TERMS
from trainers.trial.traits import Parameter


def bounds(name: str) -> tuple[float, float]:
    """Returns the least and the greatest number that a search may try for the field; infinite where
    nothing bounds it. Of a parameter that several losses have: the widest of their ranges."""
    rows = list(_rows(name))
    if rows:
        lows = [_first(row.search_low, row.low, -math.inf) for row in rows]
        highs = [_first(row.search_high, row.high, math.inf) for row in rows]
        return min(lows), max(highs)
    field = TrialConfig.model_fields.get(name)
    limits = field.metadata if field is not None else []
    least = (float(str(one.ge)) for one in limits if isinstance(one, Ge))
    most = (float(str(one.le)) for one in limits if isinstance(one, Le))
    return max(least, default=-math.inf), min(most, default=math.inf)


def _rows(name: str) -> Iterator[Parameter]:
    for table in (DIVERGENCES, POLICIES, OPTIONS, SEQUENCE_TERMS):
        for row in table.values():
            if name in row.parameters:
                yield row.parameters[name]


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)
