"""Mean ranks and critical differences against Demšar's article and scipy."""

import numpy
import pytest
from scipy.stats import f, friedmanchisquare

from service.statistics.ranks import critical_difference, friedman_p, rank_cells

# Demšar 2006, table 6: areas under curves of four variants of C4.5 on 14 data sets.
C45 = {
    "C4.5": (.763, .599, .954, .628, .882, .936, .661, .583, .775, 1.0, .94, .619, .972, .957),
    "+m": (.768, .591, .971, .661, .888, .931, .668, .583, .838, 1.0, .962, .666, .981, .978),
    "+cf": (.771, .590, .968, .654, .886, .916, .609, .563, .866, 1.0, .965, .614, .9751, .946),
    "+m+cf": (.798, .569, .967, .657, .898, .931, .685, .625, .875, 1.0, .962, .669, .975, .970),
}  # fmt: skip


def test_demsars_example() -> None:
    found = rank_cells({k: dict(enumerate(v)) for k, v in C45.items()}, sign=1)
    assert found is not None
    ranks = {name: round(rank, 3) for name, rank in found.mean_ranks.items()}
    assert ranks == {"+m+cf": 1.964, "+m": 2.0, "+cf": 2.893, "C4.5": 3.143}
    assert list(found.mean_ranks)[0] == "+m+cf"
    # His F is 3.69 with 3 and 39 degrees; ties, which his formula leaves out, make it larger.
    chi = 12 * 14 / 20 * (sum(rank**2 for rank in found.mean_ranks.values()) - 25)
    assert 13 * chi / (14 * 3 - chi) == pytest.approx(3.69, abs=0.01)
    tied = friedmanchisquare(*C45.values()).statistic
    assert found.p_value == pytest.approx(f.sf(13 * tied / (42 - tied), 3, 39))
    assert found.p_value < f.sf(3.69, 3, 39)
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
    assert found.groups == (("+m+cf", "+m", "+cf", "C4.5"),)


@pytest.mark.parametrize(("cells", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_values_are_those_of_demsars_table(cells: int, q: float) -> None:
    expected = q * (cells * (cells + 1) / (6 * 12)) ** 0.5
    assert critical_difference(cells, 12) == pytest.approx(expected, rel=5e-4)


def test_the_lowest_is_the_best_where_less_is_better() -> None:
    cells = {
        name: {s: base + 0.1 * s for s in range(3)}
        for name, base in zip("abc", (3, 1, 2), strict=True)
    }
    found = rank_cells(cells, sign=-1)
    assert found is not None
    assert found.mean_ranks == {"b": 1.0, "c": 2.0, "a": 3.0}
    assert found.p_value == pytest.approx(1 / 36)  # three seeds, six orders


def test_alike_is_never_rarer_than_chance_allows() -> None:
    table = [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    assert friedman_p(table) == pytest.approx(1 / 6)
    assert friedman_p([[1.0, 1.0, 1.0]] * 4) == 1.0


def test_friedmans_test_holds_its_level() -> None:
    generator = numpy.random.default_rng(0)
    claimed = [friedman_p(generator.normal(size=(5, 6)).tolist()) < 0.05 for _ in range(500)]
    assert sum(claimed) / 500 < 0.05 + 3 * (0.05 * 0.95 / 500) ** 0.5
    shifted = generator.normal(size=(5, 6)) + numpy.arange(6)
    assert friedman_p(shifted.tolist()) < friedmanchisquare(*shifted.T).pvalue


def test_groups_are_the_largest_runs_that_are_not_told_apart() -> None:
    cells = {str(n): {seed: float(n) for seed in range(10)} for n in range(6)}
    found = rank_cells(cells, sign=-1)
    assert found is not None
    assert 2 < found.critical_difference < 3
    assert found.groups == (("0", "1", "2"), ("1", "2", "3"), ("2", "3", "4"), ("3", "4", "5"))


def test_cells_that_failed_are_left_out_and_said() -> None:
    cells = {name: {s: float(s + n) for s in range(6)} for n, name in enumerate("abcd")}
    cells["d"] = {0: 1.0}
    del cells["c"][5]
    found = rank_cells(cells, sign=1)
    assert found is not None
    assert found.left_out == ("d",) and found.seeds == (0, 1, 2, 3, 4)
    assert list(found.mean_ranks) == ["c", "b", "a"]


def test_two_cells_or_one_seed_have_no_ranking() -> None:
    assert rank_cells({"a": {0: 1.0, 1: 2.0}, "b": {0: 1.0, 1: 2.0}}, sign=1) is None
    assert rank_cells({name: {0: 1.0} for name in "abcd"}, sign=1) is None
