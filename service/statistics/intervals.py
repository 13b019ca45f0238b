"""Means with their intervals (Student's t)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

LEVEL, ALPHA = 0.95, 0.05


@dataclass(frozen=True)
class MeanInterval:
    """A mean over `num` values and its 95 % interval; low, high: None for one value, which says
    nothing of its spread."""

    num: int
    mean: float
    low: float | None = None
    high: float | None = None


def mean_interval(values: Sequence[float]) -> MeanInterval:
    """Returns the mean of finite values, at least one, and its 95 % interval."""
    mean = fmean(values)
    if len(values) < 2:
        return MeanInterval(len(values), mean)
    half = critical_t(len(values)) * stdev(values) / math.sqrt(len(values))
    return MeanInterval(len(values), mean, mean - half, mean + half)


def critical_t(num: int, alpha: float = ALPHA) -> float:
    """Returns how many standard errors the mean of `num` values, at least two, must lie off zero
    for a two-sided p of `alpha`."""
    # Not `scipy.stats`, which holds the same and takes a second more to load.
    from scipy.special import stdtrit

    return -float(stdtrit(num - 1, alpha / 2))


def p_of_t(t: float, num: int) -> float:
    """Returns the two-sided probability of a mean of `num` values, at least two, that lies so many
    standard errors off zero."""
    from scipy.special import stdtr

    return float(2 * stdtr(num - 1, -abs(t)))
