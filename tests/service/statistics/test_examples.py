"""Seeds and examples crossed: against statsmodels' mixed model, by simulation, at the edges."""

import math

import numpy
import pytest
from pandas import DataFrame
from scipy.stats import bootstrap, norm
from statsmodels.regression.mixed_linear_model import MixedLM

from service.statistics.examples import example_test
from service.statistics.paired import paired_test


def scores(
    generator: numpy.random.Generator,
    shape: tuple[int, int],
    *,
    gain: float = 0.3,
    of_seeds: float = 0.2,
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Scores a and b = a + gain + what seeds, examples and the rest add to the difference."""
    seeds, examples = shape
    a = generator.normal(0, 1, shape)
    difference = (
        gain
        + generator.normal(0, of_seeds, (seeds, 1))
        + generator.normal(0, 0.8, (1, examples))
        + generator.normal(0, 0.5, shape)
    )
    return a, a + difference


def test_the_parts_are_those_of_a_mixed_model() -> None:
    a, b = scores(numpy.random.default_rng(0), (6, 25), of_seeds=0.8)
    found = example_test(a.tolist(), b.tolist())
    frame = DataFrame(
        [
            {"d": b[i, j] - a[i, j], "seed": i, "example": j, "all": 1}
            for i in range(6)
            for j in range(25)
        ]
    )
    parts = {"seed": "0 + C(seed)", "example": "0 + C(example)"}
    model = MixedLM.from_formula(
        "d ~ 1", groups="all", vc_formula=parts, re_formula="0", data=frame
    ).fit(reml=True)
    by_name = dict(zip(model.model.exog_vc.names, numpy.sqrt(model.vcomp), strict=True))
    assert found.mean_difference == pytest.approx(float(model.fe_params["Intercept"]))
    assert found.seed_deviation == pytest.approx(by_name["seed"], rel=1e-2)
    assert found.example_deviation == pytest.approx(by_name["example"], rel=1e-2)
    assert found.rest_deviation == pytest.approx(math.sqrt(model.scale), rel=1e-2)
    assert found.low is not None and found.p_value is not None
    # Its normal interval, widened by t.
    error = float(model.bse_fe["Intercept"])
    assert (found.mean_difference - found.low) / error == pytest.approx(2.1, abs=0.2)
    assert found.p_value >= 2 * norm.sf(abs(found.mean_difference) / error)


def test_the_bootstrap_is_scipys_where_scores_are_plain() -> None:
    generator = numpy.random.default_rng(0)
    a, b = scores(generator, (1, 400))
    found = example_test(a.tolist(), b.tolist())
    expected = bootstrap(((b - a)[0],), numpy.mean, random_state=1).confidence_interval
    assert (found.examples_low, found.examples_high) == pytest.approx(
        (expected.low, expected.high), abs=0.02
    )
    assert (found.low, found.p_value, found.seed_deviation) == (None, None, None)
    assert example_test(a.tolist(), b.tolist()) == found


@pytest.mark.parametrize("shape", [(3, 60), (5, 40)])
def test_seeds_and_examples_together_cover_the_truth(shape: tuple[int, int]) -> None:
    generator = numpy.random.default_rng(0)
    crossed = alone = 0
    for _ in range(300):
        a, b = scores(generator, shape)
        found = example_test(a.tolist(), b.tolist())
        assert found.low is not None and found.high is not None
        crossed += found.low <= 0.3 <= found.high
        by_seed = paired_test(list(a.mean(axis=1)), list(b.mean(axis=1)))
        assert by_seed.low is not None and by_seed.high is not None
        alone += by_seed.low <= 0.3 <= by_seed.high
    assert 0.92 <= crossed / 300 <= 0.99
    assert alone / 300 < 0.93  # seeds alone say nothing of other examples


def test_an_interval_is_no_wider_than_few_seeds_make_it() -> None:
    """Where examples and seeds add nothing, what is taken off would leave no degree of freedom."""
    generator = numpy.random.default_rng(0)
    widths = []
    for _ in range(300):
        rest = generator.normal(0, 0.5, (3, 100))
        found = example_test([[0.0] * 100] * 3, rest.tolist())
        assert found.low is not None and found.high is not None
        widths.append(found.high - found.low)
    assert max(widths) < 10 * numpy.median(widths)


def test_few_skewed_examples_are_covered_better_than_by_percentiles() -> None:
    generator = numpy.random.default_rng(0)
    wide = percentile = 0
    for _ in range(300):
        values = generator.lognormal(0, 1, (1, 20))
        found = example_test([[0.0] * 20], values.tolist())
        assert found.examples_low is not None and found.examples_high is not None
        wide += found.examples_low <= math.exp(0.5) <= found.examples_high
        means = generator.choice(values[0], (500, 20)).mean(axis=1)
        low, high = numpy.quantile(means, [0.025, 0.975])
        percentile += low <= math.exp(0.5) <= high
    assert wide / 300 > 0.9 and wide > percentile


def test_too_little_has_no_interval() -> None:
    found = example_test([[0.0] * 9] * 3, [[1.0] * 9] * 3)
    assert (found.num_seeds, found.num_examples, found.mean_difference) == (3, 9, 1.0)
    assert (found.low, found.examples_low, found.rest_deviation) == (None, None, None)


def test_scores_that_do_not_vary() -> None:
    found = example_test([[0.0] * 12] * 3, [[1.0] * 12] * 3)
    assert (found.low, found.high, found.p_value) == (1.0, 1.0, 0.25)
    assert (found.examples_low, found.examples_high) == (1.0, 1.0)
    assert example_test([[0.0] * 12] * 3, [[0.0] * 12] * 3).p_value == 1.0


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([[1.0]], [[1.0], [2.0]], r"got 1 and 2 rows of \[1\] scores"),
        ([[1.0, 2.0]], [[1.0]], r"got 1 and 1 rows of \[1, 2\] scores"),
        ([], [], "got 0 and 0 rows"),
        ([[math.nan]], [[1.0]], "must be finite"),
    ],
)
def test_what_is_not_crossed_is_refused(
    a: list[list[float]], b: list[list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        example_test(a, b)
