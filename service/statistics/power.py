"""How many seeds a difference needs in order to be seen (paired t test, noncentral t)."""

import math

from service.statistics.intervals import ALPHA, critical_t

POWER = 0.8
MOST_SEEDS = 1000


def power_of(effect_size: float, num_pairs: int, alpha: float = ALPHA) -> float:
    """Returns the chance that a paired t test at level `alpha` sees a true difference of so many
    standard deviations of the differences, with `num_pairs` seeds, two or more (Cohen 1988)."""
    limit, off = critical_t(num_pairs, alpha), abs(effect_size) * math.sqrt(num_pairs)
    return 1 - _below(limit, num_pairs, off) + _below(-limit, num_pairs, off)


def _below(limit: float, num: int, off: float) -> float:
    """Returns the chance of t below `limit` where the mean lies `off` standard errors off zero."""
    from scipy.special import nctdtr

    # It has no number for what is far below 1e-16.
    found = float(nctdtr(num - 1, off, limit))
    return 0.0 if math.isnan(found) else found


def seeds_needed(effect_size: float, *, num_comparisons: int = 1) -> int | None:
    """Returns the smallest number of seeds with which a true difference of this size is seen in 80
    of 100 studies, as the first of `num_comparisons` that Holm's correction lets pass; None when
    1,000 are too few. effect_size: mean ÷ standard deviation of the differences; one that was
    estimated from few seeds is itself uncertain, and so is the answer."""
    alpha = ALPHA / num_comparisons
    if power_of(effect_size, MOST_SEEDS, alpha) < POWER:
        return None
    low, high = 1, MOST_SEEDS  # too few or untestable; enough
    while high - low > 1:
        middle = (low + high) // 2
        enough = power_of(effect_size, middle, alpha) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high
