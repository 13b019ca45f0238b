"""Paired tests against scipy's and against hand computation."""

import math

import pytest
from scipy.stats import ttest_rel, wilcoxon

from service.statistics.paired import hedges_factor, paired_by_seed, paired_test, signed_rank

A = [0.20, 0.22, 0.19, 0.25, 0.21, 0.24, 0.18, 0.23]
B = [0.23, 0.24, 0.24, 0.26, 0.22, 0.29, 0.20, 0.24]


def test_the_t_test_is_scipys() -> None:
    found, expected = paired_test(A, B), ttest_rel(B, A)
    interval = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.mean_difference == pytest.approx(0.025)
    assert found.shows_difference


def test_students_own_sleep_data() -> None:
    """Student 1908, hours of sleep that two drugs gained ten patients: t = 4.06, p = 0.0028."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired_test(first, second)
    assert found.mean_difference == pytest.approx(1.58)
    assert found.p_value == pytest.approx(0.002833, abs=1e-6)
    assert (found.low, found.high) == pytest.approx((0.7001, 2.4599), abs=1e-4)
    assert found.effect_size == pytest.approx(1.285 * (1 - 3 / (4 * 9 - 1)), abs=2e-3)


def test_the_effect_is_free_of_bias_in_small_samples() -> None:
    # Hedges 1981, table 2, and his approximation 1 - 3 / (4 m - 1) for large m.
    assert hedges_factor(3) == pytest.approx(0.5642, abs=1e-4)
    assert hedges_factor(11) == pytest.approx(0.9228, abs=1e-4)
    assert hedges_factor(200) == pytest.approx(1 - 3 / (4 * 199 - 1), abs=1e-5)
    assert paired_test(A[:2], B[:2]).effect_size is None


def test_one_pair_shows_nothing() -> None:
    found = paired_test([0.2], [0.3])
    assert (found.num_pairs, found.low, found.p_value) == (1, None, None)
    assert not found.shows_difference
    assert "one seed each" in found.sentence()


def test_noise_is_not_told_from_chance() -> None:
    found = paired_test([0.2, 0.3, 0.25], [0.3, 0.2, 0.26])
    assert not found.shows_difference
    assert "over 3 seeds" in found.sentence() and "not told from chance" in found.sentence()


@pytest.mark.parametrize(
    ("a", "b", "p_value"),
    [
        ([1.0, 2.0], [1.0, 2.0], 1.0),
        ([1.0, 2.0], [2.0, 3.0], 0.5),
        ([0.9, 0.8, 0.7], [0.91, 0.81, 0.71], 0.25),  # the same but for rounding
    ],
)
def test_differences_that_are_all_the_same_are_no_proof(
    a: list[float], b: list[float], p_value: float
) -> None:
    found = paired_test(a, b)
    assert found.p_value == p_value
    assert found.low == found.high == pytest.approx(b[0] - a[0])
    assert not found.shows_difference


def test_only_seeds_that_both_have_are_paired() -> None:
    found = paired_by_seed({1: 0.1, 2: 0.2, 5: 9.0}, {2: 0.3, 1: 0.3, 7: 9.0})
    assert found == paired_test([0.1, 0.2], [0.3, 0.3])
    assert paired_by_seed({1: 0.1}, {2: 0.2}) is None


def test_signed_ranks_are_scipys_from_ten_pairs_on() -> None:
    differences = [0.3, -0.1, 0.5, 0.2, 0.9, -0.4, 0.8, 1.1, 0.6, 0.7]
    assert signed_rank(differences) == pytest.approx(wilcoxon(differences).pvalue)
    assert signed_rank(differences) == pytest.approx(20 / 1024)  # rank sums of 0 to 5
    assert signed_rank(differences[:9]) is None
    assert signed_rank([0.0] * 12) is None


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([], [], "pairs are needed, but got 0 and 0"),
        ([1.0], [1.0, 2.0], "got 1 and 2"),
        ([math.nan], [1.0], "must be finite"),
    ],
)
def test_what_is_no_pair_is_refused(a: list[float], b: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_test(a, b)
