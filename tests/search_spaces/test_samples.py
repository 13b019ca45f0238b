"""Points that stand for a space: all its corners where they are few, and always its ends."""

from search_spaces.samples import samples
from search_spaces.space import SearchSpace

SPACE = SearchSpace.parse(
    {
        "policy": {"choice": ["fixed", "cist"]},
        "tau": {"float": [0.5, 8], "when": {"policy": "fixed"}},
        "rho": {"float": [1, 20], "when": {"policy": "cist"}},
        "seed": {"int": [1, 9]},
    }
)
WIDE = SearchSpace.parse({f"x{number}": {"float": [0, 1]} for number in range(12)})


def test_every_corner_of_every_branch_comes_first() -> None:
    first = [tuple(point.values()) for point, _ in zip(samples(SPACE), range(8), strict=False)]
    corners = [("fixed", tau, seed) for tau in (0.5, 8.0) for seed in (1, 9)]
    corners += [("cist", rho, seed) for rho in (1.0, 20.0) for seed in (1, 9)]
    assert set(first) == set(corners)


def test_only_points_of_the_space_come() -> None:
    assert all(SPACE.contains(point) for point in samples(SPACE))


def test_a_wide_space_is_drawn_from_and_tried_at_both_ends() -> None:
    points = list(samples(WIDE))
    assert len(points) == 900  # not the 4096 corners
    assert {0.0} in [set(point.values()) for point in points]
    assert {1.0} in [set(point.values()) for point in points]
