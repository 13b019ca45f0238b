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
    from scipy.stats import t

    error = stdev(differences) / math.sqrt(len(differences))
    freedom = len(differences) - 1
    if error == 0:
        return 0.0, 1.0 if mean == 0 else 0.0
    half = float(t.ppf(0.5 + LEVEL / 2, freedom)) * error
    return half, float(2 * t.sf(abs(mean) / error, freedom))


def _bootstrap(differences: Sequence[float], seed: int) -> tuple[float, float]:
    import numpy

    generator = numpy.random.default_rng(seed)
    values = numpy.asarray(differences)
    means = generator.choice(values, (RESAMPLES, len(values))).mean(axis=1)
    low, high = numpy.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
