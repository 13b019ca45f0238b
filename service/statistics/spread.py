"""How much cells differ beside how much the seeds of one do (one-way analysis of variance)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from service.statistics.intervals import ALPHA


@dataclass(frozen=True)
class SeedSpread:
    """How much single trials vary. between: standard deviation of the configs' means; within: that
    of one config's seeds, over all configs that were repeated; p_value: of the F test that configs
    differ by no more than seeds do."""

    between: float
    within: float
    p_value: float

    @property
    def configs_differ(self) -> bool:
        """Whether configs differ by more than their seeds explain, at 5 %."""
        return self.p_value < ALPHA


def seed_spread(groups: Sequence[Sequence[float]]) -> SeedSpread | None:
    """Returns how much configs differ beside how much the seeds of one do; None with fewer than two
    configs, or where none was repeated. groups: the values of each config, one a seed."""
    freedom = sum(len(group) - 1 for group in groups)
    if len(groups) < 2 or freedom < 1:
        return None
    means = [fmean(group) for group in groups]
    pairs = list(zip(groups, means, strict=True))
    grand = fmean([value for group in groups for value in group])
    within = sum((value - mean) ** 2 for group, mean in pairs for value in group) / freedom
    between = sum(len(group) * (mean - grand) ** 2 for group, mean in pairs) / (len(groups) - 1)
    p_value = _f_test(between, within, len(groups) - 1, freedom)
    return SeedSpread(stdev(means), math.sqrt(within), p_value)


def _f_test(between: float, within: float, freedom_between: int, freedom_within: int) -> float:
    """Returns the probability of a ratio as large where configs do not differ (Fisher's F)."""
    from scipy.special import fdtrc

    if within == 0:
        return 1.0 if between == 0 else 0.0
    return float(fdtrc(freedom_between, freedom_within, between / within))
