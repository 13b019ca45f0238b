"""What repeated seeds allow to say: paired differences with an interval and a probability. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

LEVEL = 0.95
RESAMPLES = 10_000
# Below this many pairs resampling gives intervals that are far too narrow: only t's are honest.
MIN_BOOTSTRAP_PAIRS = 6


@dataclass(frozen=True)
class PairedTest:
    """Differences b - a of values that share a seed.

    low, high: 95 % interval of the mean difference (Student's t); bootstrap: the same by
    resampling pairs, None below six pairs; p_value: of the paired t test, two-sided; all None
    with fewer than two pairs, which can show nothing.
    """

    num_pairs: int
    mean_difference: float
    low: float | None
    high: float | None
    bootstrap: tuple[float, float] | None
    p_value: float | None

    @property
    def shows_difference(self) -> bool:
        """Whether the 95 % interval leaves zero out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    def sentence(self) -> str:
        """Returns what may be said, for people."""
        if self.low is None or self.high is None or self.p_value is None:
            return (
                f"difference {self.mean_difference:+.4g} with one seed each, which cannot tell it "
                "from chance: repeat both on the same fresh seeds"
            )
        word = "more than chance" if self.shows_difference else "not told from chance"
        return (
            f"difference {self.mean_difference:+.4g} over {self.num_pairs} seeds, 95 % interval "
            f"{self.low:+.4g} to {self.high:+.4g}, p = {self.p_value:.2g}: {word}"
        )


@dataclass(frozen=True)
class SeedSpread:
    """How much single trials vary. between: standard deviation of the configs' means; within: that
    of one config's seeds, over all configs that were repeated; p_value: of the F test that configs
    differ by no more than seeds do (one-way analysis of variance)."""

    between: float
    within: float
    p_value: float

    @property
    def configs_differ(self) -> bool:
        """Whether configs differ by more than their seeds explain, at 5 %."""
        return self.p_value < 1 - LEVEL


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Returns the mean of finite values, at least one, and its 95 % interval (Student's t); None
    for both ends with one value, which says nothing of its spread."""
    mean = fmean(values)
    if len(values) < 2:
        return mean, None, None
    half, _ = _student(values, mean)
    return mean, mean - half, mean + half


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


def paired_test(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> PairedTest:
    """Returns the test of b - a, pair by pair (Student's paired t; Efron's percentile bootstrap).

    a, b: finite values of equal seeds in equal order, at least one. Raises `ValueError` otherwise.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"pairs are needed, but got {len(a)} and {len(b)} values")
    differences = [after - before for before, after in zip(a, b, strict=True)]
    if not all(map(math.isfinite, differences)):
        raise ValueError(f"values must be finite, but got {list(a)} and {list(b)}")
    mean = fmean(differences)
    if len(differences) < 2:
        return PairedTest(len(differences), mean, None, None, None, None)
    half, p_value = _student(differences, mean)
    enough = len(differences) >= MIN_BOOTSTRAP_PAIRS
    resampled = _bootstrap(differences, seed) if enough else None
    return PairedTest(len(differences), mean, mean - half, mean + half, resampled, p_value)


def _student(differences: Sequence[float], mean: float) -> tuple[float, float]:
    """Returns half the interval's width and the two-sided probability."""
    # Not `scipy.stats`, which holds the same and takes a second more to load.
    from scipy.special import stdtr, stdtrit

    error = stdev(differences) / math.sqrt(len(differences))
    freedom = len(differences) - 1
    if error == 0:
        return 0.0, 1.0 if mean == 0 else 0.0
    half = float(stdtrit(freedom, 0.5 + LEVEL / 2)) * error
    return half, float(2 * stdtr(freedom, -abs(mean) / error))


def _bootstrap(differences: Sequence[float], seed: int) -> tuple[float, float]:
    import numpy

    generator = numpy.random.default_rng(seed)
    values = numpy.asarray(differences)
    means = generator.choice(values, (RESAMPLES, len(values))).mean(axis=1)
    low, high = numpy.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
