"""Many comparisons at once: Holm's correction, and which of them could have come out at all."""

import math
from collections.abc import Sequence

from service.statistics.intervals import ALPHA, p_of_t

# Differences of seeds never agree more closely than to a tenth of their mean; with this, a number
# of pairs has a smallest p that it can be expected to give.
LARGEST_EFFECT = 10.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the adjusted probabilities, in the same order: those of at most 5 % may be claimed
    together with a chance of at most 5 % that any of them is wrong (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for step, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - step) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def least_p(num_pairs: int) -> float:
    """Returns the smallest p that a paired t test of so many pairs can be expected to give: that of
    differences which vary by a tenth of their mean; 1 below two pairs."""
    if num_pairs < 2:
        return 1.0
    return p_of_t(LARGEST_EFFECT * math.sqrt(num_pairs), num_pairs)


def could_be_significant(p_values: Sequence[float], num_pairs: Sequence[int]) -> list[bool]:
    """Returns for each comparison whether it could have been claimed after Holm's correction, the
    others being as they are. num_pairs: of each, which bounds its p from below (`least_p`)."""
    found = []
    for index, num in enumerate(num_pairs):
        best = list(p_values)
        best[index] = min(p_values[index], least_p(num))
        found.append(holm(best)[index] <= ALPHA)
    return found
