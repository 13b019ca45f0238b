"""Scores of single examples, the same ones for every seed of two cells: what new examples, and new
examples with new seeds, allow to say.

Seeds and examples are crossed: each seed's student answers each example. The difference of seed i
on example j is a mean, plus what seed i adds, plus what example j adds, plus a rest. Taking all as
independent would count every example once a seed and give intervals far too narrow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.statistics.intervals import ALPHA, LEVEL

RESAMPLES = 2_000
# Below this many, resampled examples are too much alike.
MIN_EXAMPLES = 10
_MOST_DRAWS = 4_000_000  # at once: 32 MB of indices


@dataclass(frozen=True)
class ExampleTest:
    """Differences b - a of scores per seed and example.

    low, high: 95 % interval for new seeds and new examples (both random; Satterthwaite's degrees of
    freedom); p_value: of the same t. examples_low, examples_high: 95 % interval for new examples
    and these very students (bootstrap-t). Each None where there is too little: two seeds for the
    first, ten examples for both. seed_deviation, example_deviation, rest_deviation: what seeds,
    examples, and the two together add to a single difference, as standard deviations.
    """

    num_seeds: int
    num_examples: int
    mean_difference: float
    low: float | None
    high: float | None
    p_value: float | None
    examples_low: float | None
    examples_high: float | None
    seed_deviation: float | None
    example_deviation: float | None
    rest_deviation: float | None


def example_test(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], *, seed: int = 0
) -> ExampleTest:
    """Returns the test of b - a. a, b: finite scores, a row for each seed and in it one for each
    example, seeds and examples in the same order in both; seed: fixes the resampling. Raises
    `ValueError` for anything else."""
    import numpy

    differences = numpy.asarray(b, dtype=float) - _checked(a, b)
    num_seeds, num_examples = differences.shape
    mean = float(differences.mean())
    if num_examples < MIN_EXAMPLES:
        return ExampleTest(num_seeds, num_examples, mean, *[None] * 8)
    bounds = _bootstrap_t(differences.mean(axis=0), seed)
    if num_seeds < 2:
        return ExampleTest(num_seeds, num_examples, mean, None, None, None, *bounds, *[None] * 3)
    return ExampleTest(
        num_seeds, num_examples, mean, *_crossed(differences), *bounds, *_deviations(differences)
    )


def _checked(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> Any:
    import numpy

    shapes = {len(row) for row in (*a, *b)}
    if len(a) != len(b) or len(shapes) != 1 or 0 in shapes:
        raise ValueError(
            "a and b must have a row for each of the same seeds, and in each a score for each of "
            f"the same examples, but got {len(a)} and {len(b)} rows of {sorted(shapes)} scores"
        )
    scores = numpy.asarray(a, dtype=float)
    if not (numpy.isfinite(scores).all() and numpy.isfinite(numpy.asarray(b, dtype=float)).all()):
        raise ValueError("scores must be finite, but got NaN or infinity")
    return scores


def _squares(differences: Any) -> tuple[float, float, float]:
    """Returns the mean squares of seeds, of examples, and of the rest (two-way analysis of variance
    with one value a cell)."""
    num_seeds, num_examples = differences.shape
    mean = differences.mean()
    seeds, examples = differences.mean(axis=1) - mean, differences.mean(axis=0) - mean
    rest = differences - mean - seeds[:, None] - examples[None, :]
    return (
        float(num_examples * (seeds**2).sum() / (num_seeds - 1)),
        float(num_seeds * (examples**2).sum() / (num_examples - 1)),
        float((rest**2).sum() / ((num_seeds - 1) * (num_examples - 1))),
    )


def _deviations(differences: Any) -> tuple[float, float, float]:
    """Returns the standard deviations of the three parts: where the estimates are not negative,
    those of a mixed model by restricted maximum likelihood."""
    num_seeds, num_examples = differences.shape
    seeds, examples, rest = _squares(differences)
    return (
        math.sqrt(max(0.0, seeds - rest) / num_examples),
        math.sqrt(max(0.0, examples - rest) / num_seeds),
        math.sqrt(rest),
    )


def _crossed(differences: Any) -> tuple[float, float, float]:
    """Returns interval and p of the mean where seeds and examples are both random."""
    from scipy.special import stdtr, stdtrit

    num_seeds, num_examples = differences.shape
    seeds, examples, rest = _squares(differences)
    # The variance of the mean is (seeds + examples - rest) / N: in expectation what seeds, examples
    # and the rest add. Never less than that of seeds alone, which the primary test uses.
    parts = [(seeds, num_seeds - 1), (examples, num_examples - 1)]
    if examples > rest:
        parts.append((-rest, (num_seeds - 1) * (num_examples - 1)))
    else:
        parts = parts[:1]
    total = sum(square for square, _ in parts)
    mean = float(differences.mean())
    if total <= 0:
        return mean, mean, 1.0 if mean == 0 else 2.0 ** (1 - num_seeds)
    # The part that is taken off may leave fewer than any of them has, which is an artefact.
    freedom = max(num_seeds - 1, total**2 / sum(square**2 / free for square, free in parts))
    error = math.sqrt(total / differences.size)
    half = -float(stdtrit(freedom, ALPHA / 2)) * error
    return mean - half, mean + half, float(2 * stdtr(freedom, -abs(mean) / error))


def _bootstrap_t(values: Any, seed: int) -> tuple[float, float]:
    """Returns the interval of the mean of `values` by resampling them, each resample's error
    beside its mean (Efron 1981): wider than the percentiles', as few skewed values need."""
    import numpy

    generator = numpy.random.default_rng(seed)
    num, mean = len(values), values.mean()
    error = values.std(ddof=1) / math.sqrt(num)
    if error == 0:
        return float(mean), float(mean)
    found, rows = [], max(1, _MOST_DRAWS // num)
    for start in range(0, RESAMPLES, rows):
        drawn = generator.choice(values, (min(rows, RESAMPLES - start), num))
        errors = drawn.std(axis=1, ddof=1) / math.sqrt(num)
        varied = errors > 0
        found.append((drawn.mean(axis=1)[varied] - mean) / errors[varied])
    low, high = numpy.quantile(numpy.concatenate(found), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(mean - high * error), float(mean - low * error)
