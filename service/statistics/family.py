"""Several cells against one control, as one family of comparisons."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.statistics.corrections import could_be_significant, holm
from service.statistics.intervals import ALPHA, MeanInterval, mean_interval
from service.statistics.paired import PairedTest, paired_by_seed, signed_rank
from service.statistics.power import seeds_needed

# seed → finite value
Cell = Mapping[int, float]


@dataclass(frozen=True)
class Difference:
    """One cell against the control. mean: of all its seeds; test: over the seeds that both have,
    None where they share none; adjusted: its p after Holm's correction over the family, None where
    there is none to correct; could_be_significant: whether so few pairs among so many comparisons
    could have been claimed at all (`corrections.could_be_significant`); signed_rank: Wilcoxon's p,
    uncorrected, from ten pairs on; seeds_needed: to see a difference of the size found in 80 of 100
    studies, None where 1,000 are too few or the size is not known; without: seeds that one of the
    two has and the other has not.
    """

    name: str
    mean: MeanInterval
    test: PairedTest | None
    adjusted: float | None
    could_be_significant: bool
    signed_rank: float | None
    seeds_needed: int | None
    without: tuple[int, ...] = ()

    @property
    def is_significant(self) -> bool:
        """Whether it may be claimed, together with all others of the family that are."""
        return self.adjusted is not None and self.adjusted <= ALPHA


@dataclass(frozen=True)
class Family:
    """Cells against `control`, in the order in which they came; num_tested: how many of them have a
    p, which is what Holm's correction counts."""

    control: str
    control_mean: MeanInterval
    differences: tuple[Difference, ...]
    num_tested: int

    @property
    def is_unbalanced(self) -> bool:
        """Whether some cell lacks a seed that the control has, or has one more."""
        return any(one.without for one in self.differences)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of the family as a whole, in sentences: how many comparisons were corrected
        for, which could not have come out, which lack seeds."""
        found = []
        if self.num_tested > 1:
            found.append(
                f"p is corrected for {self.num_tested} comparisons with the same control (Holm): "
                "all that are called significant are so together, with a chance of at most 5 % "
                "that one is not"
            )
        untested = [one for one in self.differences if one.adjusted is None]
        if untested:
            found.append(
                f"{_names(untested)}: fewer than two seeds shared with {self.control}, so no "
                "interval and no p: train both on the same fresh seeds"
            )
        hopeless = [
            one
            for one in self.differences
            if one.adjusted is not None and not one.could_be_significant
        ]
        if hopeless:
            found.append(
                f"{_names(hopeless)}: so few seeds can hardly be significant among "
                f"{self.num_tested} comparisons, however large the difference: that they are not "
                "says nothing"
            )
        lacking = [one for one in self.differences if one.without and one.adjusted is not None]
        if lacking:
            found.append(
                f"{_names(lacking)}: not all seeds are shared with {self.control}; only shared "
                "ones are compared. Where trials failed because of their config, what is left "
                "favours it"
            )
        return tuple(found)


def against_control(cells: Mapping[str, Cell], control: str) -> Family:
    """Returns every other cell of `cells` compared with `control`, one of them. cells: name → seed
    → finite value, at least one each."""
    base = cells[control]
    others = {name: cell for name, cell in cells.items() if name != control}
    tests = {name: paired_by_seed(base, cell) for name, cell in others.items()}
    corrected = _corrected(tests)
    differences = tuple(
        Difference(
            name=name,
            mean=mean_interval(list(cell.values())),
            test=tests[name],
            adjusted=corrected[name][0] if name in corrected else None,
            could_be_significant=name in corrected and corrected[name][1],
            signed_rank=_signed_rank(base, cell),
            seeds_needed=_seeds_needed(tests[name], len(corrected)),
            without=tuple(sorted(base.keys() ^ cell.keys())),
        )
        for name, cell in others.items()
    )
    return Family(control, mean_interval(list(base.values())), differences, len(corrected))


def _corrected(tests: Mapping[str, PairedTest | None]) -> dict[str, tuple[float, bool]]:
    """Returns of each test with a p what it is after correction, and whether it could have been
    significant."""
    found = {
        name: (test.p_value, test.num_pairs)
        for name, test in tests.items()
        if test is not None and test.p_value is not None
    }
    p_values, pairs = [p for p, _ in found.values()], [num for _, num in found.values()]
    both = zip(holm(p_values), could_be_significant(p_values, pairs), strict=True)
    return dict(zip(found, both, strict=True))


def _signed_rank(a: Cell, b: Cell) -> float | None:
    return signed_rank([b[seed] - a[seed] for seed in sorted(a.keys() & b.keys())])


def _seeds_needed(test: PairedTest | None, num_comparisons: int) -> int | None:
    if test is None or test.effect_size is None:
        return None
    return seeds_needed(test.effect_size, num_comparisons=num_comparisons)


def _names(differences: list[Difference]) -> str:
    """Returns the cells' names, at most three of them."""
    names = [one.name for one in differences]
    more = [f"{len(names) - 3} more"] if len(names) > 4 else []
    names = names[:3] + more if more else names
    return ", ".join(names)
