"""Two cells that were trained with the same seeds: the mean of their differences, its interval, its
size and its probability."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from service.statistics.intervals import ALPHA, critical_t, p_of_t

# With fewer pairs, a signed-rank test of many comparisons can hardly reach any level: its smallest
# two-sided p is 2^(1-n), 0.002 for ten.
MIN_SIGNED_RANK_PAIRS = 10
# Below three, Hedges' factor is zero: two differences say nothing of their own spread.
MIN_EFFECT_PAIRS = 3
# Differences of equal numbers differ by so much of the numbers, by rounding.
ROUNDING = 1e-12


@dataclass(frozen=True)
class PairedTest:
    """Differences b - a of values that share a seed.

    low, high: 95 % interval of the mean difference (Student's t); p_value: of the paired t test,
    two-sided; deviation: standard deviation of the differences; all None with fewer than two pairs,
    which can show nothing. Where all differences are the same, as coarse metrics have it, t does
    not exist: p is that of so many equal signs, 2^(1-n). effect_size: Hedges' g of the differences
    (their mean over their deviation, less its bias in small samples), None below three pairs and
    where they do not vary.
    """

    num_pairs: int
    mean_difference: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    deviation: float | None = None
    effect_size: float | None = None

    @property
    def shows_difference(self) -> bool:
        """Whether it is more than chance, at 5 %."""
        return self.p_value is not None and self.p_value < ALPHA

    def numbers(self) -> str:
        """Returns the difference with its interval and probability, for people."""
        if self.low is None or self.high is None or self.p_value is None:
            return f"difference {self.mean_difference:+.4g} with one seed each"
        return (
            f"difference {self.mean_difference:+.4g} over {self.num_pairs} seeds, 95 % interval "
            f"{self.low:+.4g} to {self.high:+.4g}, p = {self.p_value:.2g}"
        )

    def sentence(self, adjusted: float | None = None, num_comparisons: int = 1) -> str:
        """Returns what may be said, for people: where it is one of several comparisons, by its
        probability after Holm's correction for them, `adjusted`."""
        if self.p_value is None:
            return (
                f"{self.numbers()}, which cannot tell it from chance: repeat both on the same "
                "fresh seeds"
            )
        text, is_shown = self.numbers(), self.shows_difference
        if adjusted is not None and num_comparisons > 1:
            is_shown = adjusted <= ALPHA
            text += f", {adjusted:.2g} after Holm's correction for {num_comparisons} comparisons"
        return f"{text}: {'more than chance' if is_shown else 'not told from chance'}"


def paired_test(a: Sequence[float], b: Sequence[float]) -> PairedTest:
    """Returns the test of b - a, pair by pair (Student's paired t).

    a, b: finite values of equal seeds in equal order, at least one. Raises `ValueError` otherwise.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"pairs are needed, but got {len(a)} and {len(b)} values")
    differences = [after - before for before, after in zip(a, b, strict=True)]
    if not all(map(math.isfinite, differences)):
        raise ValueError(f"values must be finite, but got {list(a)} and {list(b)}")
    largest = max(map(abs, [*a, *b]))
    return t_test(differences, rounding=ROUNDING * largest)


def paired_by_seed(a: Mapping[int, float], b: Mapping[int, float]) -> PairedTest | None:
    """Returns the test of b - a over the seeds that both have; None when they share none. a, b:
    seed → finite value."""
    seeds = sorted(a.keys() & b.keys())
    return paired_test([a[one] for one in seeds], [b[one] for one in seeds]) if seeds else None


def t_test(differences: Sequence[float], *, rounding: float = 0.0) -> PairedTest:
    """Returns the test that the mean of finite differences, at least one, is zero. rounding: a
    deviation of no more than this is none."""
    num, mean = len(differences), fmean(differences)
    if num < 2:
        return PairedTest(num, mean)
    deviation = stdev(differences)
    if deviation <= rounding:
        p_value = 1.0 if abs(mean) <= rounding else 2.0 ** (1 - num)
        return PairedTest(num, mean, mean, mean, p_value, 0.0)
    error = deviation / math.sqrt(num)
    half = critical_t(num) * error
    effect = mean / deviation * hedges_factor(num) if num >= MIN_EFFECT_PAIRS else None
    p_value = p_of_t(mean / error, num)
    return PairedTest(num, mean, mean - half, mean + half, p_value, deviation, effect)


def hedges_factor(num: int) -> float:
    """Returns what takes the bias out of mean ÷ deviation over `num` differences, 3 or more (Hedges
    1981, the exact factor)."""
    half = (num - 1) / 2
    return math.exp(math.lgamma(half) - math.lgamma(half - 0.5)) / math.sqrt(half)


def signed_rank(differences: Sequence[float]) -> float | None:
    """Returns the two-sided probability of Wilcoxon's signed-rank test, which no outlier moves;
    None below ten pairs and where all differences are zero."""
    if len(differences) < MIN_SIGNED_RANK_PAIRS or not any(differences):
        return None
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences).pvalue)
