"""Where two curves cross: planted crossings are found, planted ties are none."""

import numpy
import pytest

from service.statistics.crossover import Curve, crossover

TAUS = (0.5, 1.0, 1.5, 2.0, 4.0, 8.0)


def curves(
    generator: numpy.random.Generator, num_seeds: int, gap: dict[float, float], noise: float = 0.02
) -> tuple[Curve, Curve]:
    """Two curves whose true difference at each tau is `gap`; a seed adds the same to both."""
    base = generator.normal(0, 0.1, num_seeds)
    first, second = {}, {}
    for tau, truth in gap.items():
        own = generator.normal(0, noise, (2, num_seeds))
        first[tau] = {s: float(base[s] + own[0, s]) for s in range(num_seeds)}
        second[tau] = {s: float(base[s] + truth + own[1, s]) for s in range(num_seeds)}
    return first, second


def straight(at: float, slope: float = 0.2) -> dict[float, float]:
    return {tau: slope * float(numpy.log(tau / at)) for tau in TAUS}


def test_an_exact_crossing_is_found_exactly() -> None:
    gap = straight(1.7)
    first = {tau: {0: 0.0, 1: 0.0, 2: 0.0} for tau in TAUS}
    second = {tau: {0: d + 1e-4, 1: d - 1e-4, 2: d} for tau, d in gap.items()}
    found = crossover(first, second)
    assert found is not None
    (crossing,) = found.crossings
    assert crossing.tau == pytest.approx(1.7)
    assert crossing.second_is_higher_above and not crossing.several
    # Between 1.5 and 2 each seed's zero is known; t(2) = 4.303 of its error of 1e-4 / sqrt(3).
    width = 4.30265 * 1e-4 / 3**0.5 / 0.2
    assert numpy.log([crossing.low, crossing.high]) == pytest.approx(
        [numpy.log(1.7) - width, numpy.log(1.7) + width], rel=1e-4
    )
    assert found.unsure == ()
    assert found.sentence("forward_kl", "reverse_kl").startswith(
        "reverse_kl is higher than forward_kl above tau 1.7 (95 % interval 1.7 to 1.7)"
    )


@pytest.mark.parametrize("num_seeds", [3, 5, 8])
def test_a_planted_crossing_lies_in_its_interval(num_seeds: int) -> None:
    generator = numpy.random.default_rng(num_seeds)
    held = []
    for _ in range(400):
        found = crossover(*curves(generator, num_seeds, straight(1.7)))
        assert found is not None
        held += [one.low <= 1.7 <= one.high for one in found.crossings]
    assert len(held) > 200  # most studies see it
    assert 0.92 <= sum(held) / len(held) <= 1.0


def test_a_planted_tie_is_none() -> None:
    generator = numpy.random.default_rng(0)
    claimed = 0
    for _ in range(400):
        found = crossover(*curves(generator, 5, dict.fromkeys(TAUS, 0.0)))
        assert found is not None
        claimed += bool(found.crossings)
    assert claimed / 400 <= 0.05
    assert found is not None and not found.crossings
    assert "passes a nowhere between tau 0.5 and 8: at no temperature" in found.sentence("a", "b")


def test_a_curve_that_stays_ahead_crosses_nowhere() -> None:
    generator = numpy.random.default_rng(0)
    found = crossover(*curves(generator, 8, dict.fromkeys(TAUS, -0.3)))
    assert found is not None
    assert found.crossings == () and found.unsure == ()
    assert set(found.higher.values()) == {-1}
    assert found.sentence("a", "b").endswith("a is higher at 0.5, 1, 1.5, 2, 4, 8")


def test_two_crossings_are_both_found() -> None:
    generator = numpy.random.default_rng(0)
    gap = dict(zip(TAUS, (-0.3, -0.3, 0.3, 0.3, -0.3, -0.3), strict=True))
    found = crossover(*curves(generator, 8, gap))
    assert found is not None
    first, second = found.crossings
    assert 1 < first.low < first.tau < first.high < 1.5
    assert 2 < second.low < second.tau < second.high < 4
    assert (first.second_is_higher_above, second.second_is_higher_above) == (True, False)


def test_a_crossing_of_means_that_seeds_do_not_show_is_unsure() -> None:
    first = {tau: {0: 0.0, 1: 0.0, 2: 0.0} for tau in (1.0, 2.0)}
    second = {1.0: {0: -1.0, 1: 0.5, 2: -0.1}, 2.0: {0: 1.0, 1: -0.5, 2: 0.1}}
    found = crossover(first, second)
    assert found is not None
    assert found.crossings == ()
    assert found.unsure == pytest.approx([2**0.5])
    assert "which seeds do not tell from chance" in found.sentence("a", "b")


def test_one_seed_shows_no_crossing() -> None:
    found = crossover({1.0: {0: 0.0}, 4.0: {0: 0.0}}, {1.0: {0: -1.0}, 4.0: {0: 1.0}})
    assert found is not None
    assert found.crossings == () and found.unsure == pytest.approx([2.0])
    assert found.sentence("a", "b").startswith("one seed each: whether b passes a between")


def test_failed_cells_leave_what_is_shared() -> None:
    """A temperature that failed in one seed keeps the others; one that one curve lacks is left out;
    the interval reaches over a stretch that too few seeds span."""
    generator = numpy.random.default_rng(3)
    first, second = curves(generator, 6, straight(1.7))
    whole = crossover(first, second)
    first = {tau: dict(cell) for tau, cell in first.items() if tau != 8.0}
    del first[1.0][0], first[2.0][5]
    found = crossover(first, second)
    assert whole is not None and found is not None
    assert list(found.tests) == [0.5, 1.0, 1.5, 2.0, 4.0]
    assert [test.num_pairs for test in found.tests.values()] == [6, 5, 6, 5, 6]
    assert found.crossings[0].tau == pytest.approx(whole.crossings[0].tau, rel=0.1)


def test_stretches_without_shared_seeds_are_within_the_interval() -> None:
    first = {1.0: {0: 0.0, 1: 0.0, 2: 0.0}, 4.0: {3: 0.0, 4: 0.0, 5: 0.0}}
    second = {1.0: {0: -1.0, 1: -1.01, 2: -0.99}, 4.0: {3: 1.0, 4: 1.01, 5: 0.99}}
    found = crossover(first, second)
    assert found is not None
    (crossing,) = found.crossings
    assert (crossing.low, crossing.tau, crossing.high) == pytest.approx((1.0, 2.0, 4.0))


def test_a_stretch_where_nothing_changes_is_undecided_as_a_whole() -> None:
    gaps = {1.0: (-1.0, -1.1, -0.9), 2.0: (0.1, -0.1, 0.02), 4.0: (0.1, -0.1, 0.02)}
    gaps[8.0] = (1.0, 1.1, 0.9)
    first = {tau: {0: 0.0, 1: 0.0, 2: 0.0} for tau in gaps}
    found = crossover(first, {tau: dict(enumerate(gap)) for tau, gap in gaps.items()})
    assert found is not None
    (crossing,) = found.crossings
    assert 1 < crossing.low < 2 and 4 < crossing.high < 8


def test_curves_without_two_temperatures_in_common_are_none() -> None:
    assert crossover({1.0: {0: 1.0}}, {1.0: {0: 2.0}}) is None
    assert crossover({}, {1.0: {0: 2.0}}) is None
    with pytest.raises(ValueError, match=r"tau must be > 0, but got 0.0"):
        crossover({0.0: {0: 1.0}}, {1.0: {0: 1.0}})
