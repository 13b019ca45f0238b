"""Paired tests against scipy's and against hand computation."""

import math

import pytest
from scipy.stats import bootstrap, ttest_rel

from service.results.statistics import paired_test

A = [0.20, 0.22, 0.19, 0.25, 0.21, 0.24, 0.18, 0.23]
B = [0.23, 0.24, 0.24, 0.26, 0.22, 0.29, 0.20, 0.24]


def test_the_t_test_is_scipys() -> None:
    found, expected = paired_test(A, B), ttest_rel(B, A)
    interval = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.mean_difference == pytest.approx(0.025)
    assert found.shows_difference


def test_the_bootstrap_is_scipys_up_to_its_own_noise() -> None:
    differences = [b - a for a, b in zip(A, B, strict=True)]
    expected = bootstrap(
        (differences,), lambda x, axis: x.mean(axis=axis), method="percentile", random_state=1
    ).confidence_interval
    assert paired_test(A, B).bootstrap == pytest.approx((expected.low, expected.high), abs=1e-3)
    assert paired_test(A, B) == paired_test(A, B)


def test_one_pair_shows_nothing() -> None:
    found = paired_test([0.2], [0.3])
    assert (found.num_pairs, found.low, found.p_value) == (1, None, None)
    assert not found.shows_difference
    assert "one seed each" in found.sentence()


def test_few_pairs_are_not_resampled() -> None:
    assert paired_test(A[:3], B[:3]).bootstrap is None


def test_noise_is_not_told_from_chance() -> None:
    found = paired_test([0.2, 0.3, 0.25], [0.3, 0.2, 0.26])
    assert not found.shows_difference
    assert "over 3 seeds" in found.sentence() and "not told from chance" in found.sentence()


@pytest.mark.parametrize(("b", "p_value"), [([1.0, 2.0], 1.0), ([2.0, 3.0], 0.0)])
def test_differences_without_spread(b: list[float], p_value: float) -> None:
    found = paired_test([1.0, 2.0], b)
    assert found.p_value == p_value
    assert found.low == found.high == b[0] - 1


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
