"""Metrics that are computed from per-position quantities, averaged over all learned positions; no
torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainers.trial.metrics import Metric

# Takes the `Positions` of N positions and returns a tensor [N].
Quantity = Callable[[Any], Any]


def the_mean(mean: float) -> float:
    """Returns the mean itself: what most metrics are."""
    return mean


@dataclass(frozen=True, kw_only=True)
class PositionMetric(Metric):
    """A metric made of means over positions. `of`: functions of N positions that each return [N];
    one that several metrics name is computed once. `value`: the metric as a function of their means
    over the split, in that order."""

    of: tuple[Quantity, ...]
    value: Callable[..., float] = the_mean
