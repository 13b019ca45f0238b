"""How cells rank over seeds: mean ranks with the critical difference (Demšar 2006, JMLR 7, 1-30).

There, what is ranked over are data sets; here they are seeds of one, so what comes out is about
this teacher and these data alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from service.statistics.family import Cell
from service.statistics.intervals import ALPHA

# Friedman's test is made for three treatments and more; for two there is the paired test.
MIN_CELLS = 3


@dataclass(frozen=True)
class Ranking:
    """`mean_ranks`: cell → mean over seeds of its rank, 1 for the best, the best first; p_value:
    that all cells rank alike (Friedman's test in Iman and Davenport's form, never below the
    smallest that so few seeds can give); critical_difference: mean ranks that differ by less are
    not told apart (Nemenyi); groups: the largest sets of cells that are not, the best first;
    seeds: those that each ranked cell has; left_out: cells that lack more than half of the seeds.
    """

    seeds: tuple[int, ...]
    mean_ranks: dict[str, float]
    p_value: float
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...] = ()


def rank_cells(cells: Mapping[str, Cell], *, sign: int) -> Ranking | None:
    """Returns how cells rank; None unless three share two seeds. sign: 1 where more is better,
    else -1."""
    every = {seed for cell in cells.values() for seed in cell}
    kept = {name: cell for name, cell in cells.items() if 2 * len(cell) >= len(every)}
    seeds = sorted(every.intersection(*kept.values()))
    if len(kept) < MIN_CELLS or len(seeds) < 2:
        return None
    table = [[-sign * cell[seed] for cell in kept.values()] for seed in seeds]
    means = sorted(zip(kept, _mean_ranks(table), strict=True), key=lambda one: one[1])
    difference = critical_difference(len(kept), len(seeds))
    return Ranking(
        tuple(seeds),
        dict(means),
        friedman_p(table),
        difference,
        _groups(means, difference),
        tuple(name for name in cells if name not in kept),
    )


def critical_difference(num_cells: int, num_seeds: int) -> float:
    """Returns how far apart two mean ranks must lie to be told apart at 5 % (Nemenyi)."""
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - ALPHA, num_cells, math.inf)) / math.sqrt(2)
    return q * math.sqrt(num_cells * (num_cells + 1) / (6 * num_seeds))


def friedman_p(table: Sequence[Sequence[float]]) -> float:
    """Returns the probability that rows rank their columns as alike, or more, by chance. table: a
    row for each of at least two seeds, of at least three values."""
    from scipy.special import fdtrc
    from scipy.stats import friedmanchisquare

    rows, columns = len(table), len(table[0])
    if all(len(set(row)) == 1 for row in table):
        return 1.0
    chi = float(friedmanchisquare(*zip(*table, strict=True)).statistic)
    most = rows * (columns - 1)
    # Where all rows agree F is infinite; so many rows of so many orders can still agree by chance.
    least = math.exp(-(rows - 1) * math.lgamma(columns + 1))
    if most - chi <= 1e-9 * most:
        return least
    f = (rows - 1) * chi / (most - chi)
    return max(least, float(fdtrc(columns - 1, (columns - 1) * (rows - 1), f)))


def _mean_ranks(table: Sequence[Sequence[float]]) -> list[float]:
    from scipy.stats import rankdata

    return [float(mean) for mean in rankdata(table, axis=1).mean(axis=0)]


def _groups(means: Sequence[tuple[str, float]], difference: float) -> tuple[tuple[str, ...], ...]:
    """Returns the largest runs of neighbours whose ends lie within `difference`."""
    ends = [
        max(end for end in range(start, len(means)) if means[end][1] - rank <= difference)
        for start, (_, rank) in enumerate(means)
    ]
    # A run that ends where the one before it does lies within it.
    starts = [0] + [index + 1 for index, (a, b) in enumerate(pairwise(ends)) if b > a]
    return tuple(tuple(name for name, _ in means[at : ends[at] + 1]) for at in starts)
