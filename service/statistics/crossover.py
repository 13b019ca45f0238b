"""The temperature at which one curve passes another, with its interval.

Per seed, the difference of the two curves is taken as a straight line between neighbouring
temperatures, over log tau. Where the seeds' mean difference is zero the curves cross; the interval
are all temperatures at which their paired t test does not tell the difference from zero (a test
turned around, as Fieller's of 1954), so it covers the true crossing in 95 of 100 studies however
steep the curves are. A crossing is claimed only between two temperatures at which the differences
are significant, after Holm's correction over all temperatures, with opposite signs: curves that are
the same everywhere then seem to cross in at most 5 of 100 studies.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from service.statistics.corrections import holm
from service.statistics.family import Cell
from service.statistics.intervals import ALPHA, critical_t
from service.statistics.paired import PairedTest, paired_by_seed

# tau → seed → finite value
Curve = Mapping[float, Cell]


@dataclass(frozen=True)
class Crossing:
    """Where the second curve passes the first: tau, its 95 % interval, and whether the second lies
    higher above it (else below it). several: the mean curves cross more than once within the
    interval's bounds; tau is then the middle one."""

    tau: float
    low: float
    high: float
    second_is_higher_above: bool
    several: bool = False


@dataclass(frozen=True)
class Crossover:
    """Two curves over temperature. tests: tau → second - first, paired by seed; `higher`: tau → 1
    where the second is surely higher, -1 where it is surely lower, 0 where seeds do not tell;
    crossings: empty for none in the range; unsure: temperatures where the mean curves cross and the
    seeds do not show it."""

    tests: dict[float, PairedTest]
    higher: dict[float, int]
    crossings: tuple[Crossing, ...]
    unsure: tuple[float, ...]

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest temperature at which both were measured."""
        return min(self.tests), max(self.tests)

    def sentence(self, first: str, second: str) -> str:
        """Returns what may be said, for people, of curves with these names."""
        low, high = self.range
        where = f"between tau {low:g} and {high:g}"
        texts = [_crossing_text(one, first, second) for one in self.crossings]
        if texts:
            return "; ".join(texts)
        if all(test.p_value is None for test in self.tests.values()):
            text = f"one seed each: whether {second} passes {first} {where} is not known"
        else:
            text = f"{second} passes {first} nowhere {where}: {self._who(first, second)}"
        if self.unsure:
            at = " and ".join(f"{tau:.3g}" for tau in self.unsure)
            text += f" (the means cross at tau {at}, which seeds do not tell from chance)"
        return text

    def _who(self, first: str, second: str) -> str:
        signs = {sign for sign in self.higher.values() if sign}
        if not signs:
            return "at no temperature do seeds tell them apart"
        sure = [f"{tau:g}" for tau, sign in self.higher.items() if sign]
        return f"{second if 1 in signs else first} is higher at {', '.join(sure)}"


def crossover(first: Curve, second: Curve) -> Crossover | None:
    """Returns where `second` passes `first`, over the temperatures that both have and at each the
    seeds that both have there; None where fewer than two are left. Raises `ValueError` for a
    temperature that is not positive."""
    if min([*first, *second], default=1.0) <= 0:
        raise ValueError(f"tau must be > 0, but got {min([*first, *second])}")
    taus = sorted(first.keys() & second.keys())
    tests = {
        tau: test for tau in taus if (test := paired_by_seed(first[tau], second[tau])) is not None
    }
    if len(tests) < 2:
        return None
    lines = [_Line.of(a, b, first, second) for a, b in pairwise(tests)]
    higher = _signs(tests)
    sure = [tau for tau in tests if higher[tau]]
    brackets = [(a, b) for a, b in pairwise(sure) if higher[a] != higher[b]]
    crossings = tuple(_crossing(lines, a, b, higher[b] > 0) for a, b in brackets)
    unsure = tuple(
        zero for zero in _zeros(lines) if not any(one.low <= zero <= one.high for one in crossings)
    )
    return Crossover(tests, higher, crossings, unsure)


def _crossing_text(found: Crossing, first: str, second: str) -> str:
    way = "above" if found.second_is_higher_above else "below"
    text = (
        f"{second} is higher than {first} {way} tau {found.tau:.3g} "
        f"(95 % interval {found.low:.3g} to {found.high:.3g})"
    )
    return text + (", where the means cross several times" if found.several else "")


def _signs(tests: Mapping[float, PairedTest]) -> dict[float, int]:
    """Returns at each temperature who is surely higher, after Holm's correction over all."""
    tested = {tau: test.p_value for tau, test in tests.items() if test.p_value is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {
        tau: int(math.copysign(1, test.mean_difference)) if adjusted.get(tau, 1.0) <= ALPHA else 0
        for tau, test in tests.items()
    }


@dataclass(frozen=True)
class _Line:
    """Per-seed differences between two neighbouring temperatures, straight over log tau: those at
    the lower end and at the upper one, of the seeds that both ends have. means: of all seeds at
    each end."""

    low: float
    high: float
    starts: tuple[float, ...]
    ends: tuple[float, ...]
    means: tuple[float, float]

    @classmethod
    def of(cls, low: float, high: float, first: Curve, second: Curve) -> "_Line":
        start, end = (
            {seed: second[tau][seed] - first[tau][seed] for seed in first[tau].keys() & second[tau]}
            for tau in (low, high)
        )
        seeds = sorted(start.keys() & end.keys())
        means = (fmean(start.values()), fmean(end.values()))
        return cls(low, high, tuple(start[s] for s in seeds), tuple(end[s] for s in seeds), means)

    def tau(self, share: float) -> float:
        """Returns the temperature at a share of the way from the lower to the upper one."""
        return float(self.low * (self.high / self.low) ** share)

    def zeros(self) -> list[float]:
        """Returns where the mean difference is zero; one at the upper end belongs to the next."""
        a, b = self.means
        if a == b or not (a == 0 or a * b < 0):
            return []
        return [self.tau(a / (a - b))]

    def undecided(self) -> list[float]:
        """Returns the ends of the parts in which the paired t test does not tell the difference
        from zero; both of its own ends where fewer than two seeds reach over it."""
        num = len(self.starts)
        if num < 2:
            return [self.low, self.high]
        # At a share w the mean m and the variance v of (1-w) start + w end are a line and a square
        # in w; undecided is where n m² <= t² v.
        a, b = fmean(self.starts), fmean(self.ends)
        rests = [(x - a, y - b) for x, y in zip(self.starts, self.ends, strict=True)]
        aa, ab, bb = (
            sum(p * q for p, q in terms) / (num - 1)
            for terms in (
                [(x, x) for x, _ in rests],
                rests,
                [(y, y) for _, y in rests],
            )
        )
        limit = critical_t(num) ** 2 / num
        square = (b - a) ** 2 - limit * (aa - 2 * ab + bb)
        line = 2 * a * (b - a) - 2 * limit * (ab - aa)
        constant = a**2 - limit * aa
        inside = [w for w in _roots(square, line, constant) if 0 <= w <= 1]
        ends = [w for w in (0.0, 1.0) if square * w * w + line * w + constant <= 0]
        return [self.tau(w) for w in sorted({*inside, *ends})]


def _roots(square: float, line: float, constant: float) -> list[float]:
    """Returns the real roots of square w² + line w + constant."""
    if square == 0:
        return [] if line == 0 else [-constant / line]
    under = line**2 - 4 * square * constant
    if under < 0:
        return []
    # The form that does not subtract numbers that are nearly equal.
    far = -(line + math.copysign(math.sqrt(under), line)) / 2
    return [far / square] + ([constant / far] if far else [])


def _zeros(lines: Sequence[_Line]) -> list[float]:
    return [zero for line in lines for zero in line.zeros()]


def _crossing(lines: Sequence[_Line], low: float, high: float, rises: bool) -> Crossing:
    """Returns the crossing between two temperatures at which opposite signs are sure."""
    between = [line for line in lines if low <= line.low and line.high <= high]
    zeros = _zeros(between)
    undecided = [*zeros, *(tau for line in between for tau in line.undecided())]
    middle = zeros[len(zeros) // 2]
    return Crossing(middle, min(undecided), max(undecided), rises, len(zeros) > 1)
