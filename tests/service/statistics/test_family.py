"""Holm's correction, power and families of comparisons against statsmodels and by simulation."""

import math

import numpy
import pytest
from scipy.stats import f_oneway, ttest_1samp
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from service.statistics.corrections import could_be_significant, holm, least_p
from service.statistics.family import against_control
from service.statistics.intervals import critical_t, mean_interval, p_of_t
from service.statistics.paired import paired_test
from service.statistics.power import power_of, seeds_needed
from service.statistics.spread import seed_spread


def test_holm_is_statsmodels() -> None:
    generator = numpy.random.default_rng(0)
    for size in (1, 2, 5, 20):
        p_values = list(generator.random(size) ** 3)
        assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))
    assert holm([]) == []


def test_holms_own_example() -> None:
    # 0.01 x 4 = 0.04; then 0.03 x 3 and 0.04 x 2, of which the larger one stands; 0.005 x ...
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_power_is_statsmodels() -> None:
    peer = TTestPower()
    for effect in (0.2, 0.8, 2.0, -0.8):
        for num in (2, 3, 8, 50):
            for alpha in (0.05, 0.0025):
                expected = peer.power(effect, num, alpha)
                expected = 1.0 if math.isnan(expected) else expected  # effect 2, 50 seeds
                assert power_of(effect, num, alpha) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("effect", "num"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_cohens_sizes_need_the_seeds_of_the_textbooks(effect: float, num: int) -> None:
    """G*Power 3, difference of two dependent means, two-sided 5 %, power 80 %."""
    assert seeds_needed(effect) == num


def test_more_comparisons_need_more_seeds() -> None:
    one, twenty = seeds_needed(0.8), seeds_needed(0.8, num_comparisons=20)
    assert one is not None and twenty is not None and one < twenty
    assert seeds_needed(0.0) is None and seeds_needed(0.01) is None
    assert seeds_needed(1e6) == 2


def test_few_pairs_among_many_comparisons_could_not_come_out() -> None:
    assert least_p(1) == 1.0
    assert least_p(2) == pytest.approx(ttest_1samp([0.9292893, 1.0707107], 0).pvalue, rel=1e-3)
    assert could_be_significant([0.04], [2]) == [True]
    assert could_be_significant([0.3] * 3, [2, 3, 8]) == [False, True, True]
    assert could_be_significant([0.3] * 20, [3] * 20) == [False] * 20
    # What was significant could be.
    assert could_be_significant([1e-9] + [0.3] * 19, [3] * 20)[0]


def test_a_family_is_compared_with_its_control() -> None:
    generator = numpy.random.default_rng(1)
    seeds = {seed: float(generator.normal()) for seed in range(6)}
    noise = {name: generator.normal(0, 0.1, 6) for name in "abc"}
    shift = {"a": 0.0, "b": 0.5, "c": 0.01}
    cells = {
        name: {seed: base + shift[name] + float(noise[name][seed]) for seed, base in seeds.items()}
        for name in "abc"
    }
    cells["b"].pop(5)
    found = against_control(cells, "a")
    tests = [
        paired_test([cells["a"][s] for s in cells[name]], list(cells[name].values()))
        for name in "bc"
    ]
    assert [one.test for one in found.differences] == tests
    raw = [test.p_value for test in tests]
    expected = multipletests(raw, method="holm")[1]
    assert [one.adjusted for one in found.differences] == pytest.approx(list(expected))
    assert [one.is_significant for one in found.differences] == [True, False]
    assert [one.without for one in found.differences] == [(5,), ()]
    assert found.is_unbalanced and found.num_tested == 2
    assert any("b: not all seeds are shared with a" in note for note in found.notes)


def test_one_seed_has_no_interval_and_says_so() -> None:
    found = against_control({"a": {0: 1.0}, "b": {0: 2.0}, "c": {7: 3.0}}, "a")
    assert found.control_mean.low is None and found.num_tested == 0
    assert [one.adjusted for one in found.differences] == [None, None]
    assert [one.test is None for one in found.differences] == [False, True]
    (note,) = found.notes
    assert "b, c: fewer than two seeds shared with a, so no interval and no p" in note


def test_comparisons_that_could_not_come_out_are_named() -> None:
    cells = {f"cell {n}": {0: 1.0 * n, 1: 1.5 * n, 2: 0.3 * n} for n in range(21)}
    found = against_control(cells, "cell 0")
    assert not any(one.could_be_significant for one in found.differences)
    assert any("cell 3 and" not in note and "17 more: so few seeds" in note for note in found.notes)


def test_the_spread_of_seeds_is_an_analysis_of_variance() -> None:
    groups = [[1.0, 1.2, 0.9], [1.5, 1.4], [0.8, 1.1, 1.0, 1.3]]
    found = seed_spread(groups)
    assert found is not None
    assert found.p_value == pytest.approx(f_oneway(*groups).pvalue)
    assert found.configs_differ == (found.p_value < 0.05)


def test_the_spread_of_configs_that_do_not_vary() -> None:
    same, apart = seed_spread([[1.0, 1.0], [1.0]]), seed_spread([[1.0, 1.0], [2.0]])
    assert same is not None and apart is not None
    assert (same.p_value, same.configs_differ) == (1.0, False)
    assert (apart.p_value, apart.configs_differ) == (0.0, True)
    assert seed_spread([[1.0], [2.0]]) is None and seed_spread([[1.0, 2.0]]) is None


@pytest.mark.parametrize("num_seeds", [3, 5, 8])
def test_intervals_cover_the_truth_in_95_of_100_studies(num_seeds: int) -> None:
    """The interval of a mean, and that of a paired difference whose two cells share what a seed
    adds, over 2,000 studies each."""
    generator = numpy.random.default_rng(num_seeds)
    seeds = generator.normal(0, 0.4, (2_000, num_seeds))
    noise = generator.normal(0, 0.2, (2, 2_000, num_seeds))
    covered, means = 0, 0
    for study in range(2_000):
        a, b = seeds[study] + noise[0, study], seeds[study] + 0.25 + noise[1, study]
        found, mean = paired_test(list(a), list(b)), mean_interval(list(b))
        assert found.low is not None and found.high is not None
        assert mean.low is not None and mean.high is not None
        covered += found.low <= 0.25 <= found.high
        means += mean.low <= 0.25 <= mean.high
    assert 0.93 <= covered / 2_000 <= 0.97
    assert 0.93 <= means / 2_000 <= 0.97


@pytest.mark.parametrize("num_seeds", [3, 5, 8])
def test_twenty_cells_without_effect_are_seldom_claimed(num_seeds: int) -> None:
    """At most 5 % of 1,000 studies claim anything, up to three standard errors of that share. All
    cells are compared with one control, so their differences are not independent."""
    generator = numpy.random.default_rng(num_seeds)
    scores = generator.normal(0, 0.4, (1_000, num_seeds, 1)) + generator.normal(
        0, 0.2, (1_000, num_seeds, 21)
    )
    differences = scores[:, :, 1:] - scores[:, :, :1]
    errors = differences.std(axis=1, ddof=1) / numpy.sqrt(num_seeds)
    p_values = numpy.vectorize(p_of_t)(differences.mean(axis=1) / errors, num_seeds)
    claimed = sum(min(holm(list(study))) <= 0.05 for study in p_values)
    assert claimed / 1_000 <= 0.05 + 3 * numpy.sqrt(0.05 * 0.95 / 1_000)
    uncorrected = (p_values <= 0.05).any(axis=1).mean()
    assert uncorrected > 0.3  # what Holm is for


def test_the_limit_of_t_is_its_inverse() -> None:
    assert p_of_t(critical_t(5, 0.01), 5) == pytest.approx(0.01)
