"""Search spaces that are almost right: what is taken can be counted, drawn from and walked."""

import random
from itertools import islice
from typing import Any

from fuzz_support import ends_well, mutated
from hypothesis import example, given

from search_spaces.samplers import Grid, Tpe
from search_spaces.samples import samples
from search_spaces.space import SearchSpace

SPACES: list[dict[str, Any]] = [
    {
        "a": {"choice": ["x", "y", 3, 0.3]},
        "b": {"float": [0.1, 0.5], "step": 0.1, "when": {"a": ["x", 0.3]}},
        "c": {"int": [1, 9], "log": True, "when": {"b": 0.3}},
        "d": {"fixed": True, "when": {"c": [1, 2], "a": "x"}},
        "e": {"float": [1e-5, 1], "log": True},
    },
    {"tau": {"float": [1e15, 1.7e308], "log": True}, "n": {"int": [0, 2**53]}},
]


@given(search=mutated(SPACES))
@example(search={"a": list(range(9999))})
@example(search={"a": {"choice": [list(range(9999))]}})
@example(search={"a": {"float": list(range(9999))}})
def test_a_changed_space_works_or_is_refused(search: dict[str, Any]) -> None:
    space = ends_well(lambda: SearchSpace.parse(search), ValueError)
    if space is not None:
        ends_well(lambda: _use(space))


def _use(space: SearchSpace) -> None:
    rng = random.Random(0)
    for _ in range(20):
        point = space.draw(rng)
        assert space.contains(point)
        assert space.snap(point) == point
    assert all(space.contains(point) for point in islice(samples(space), 200))
    assert SearchSpace.parse(space.to_search()) == space
    assert len(space.explain()) == len(space.names)
    total = space.size()
    assert total is None or total >= 1
    for count in (1, 3):
        size = space.size(count)
        assert size is not None
        walked = sum(1 for _ in islice(space.enumerate(count), 2000))
        assert walked == min(size, 2000)
    Tpe().check(space)
    for point in islice(space.enumerate(3), 50):
        assert Grid(points_per_range=3).point_at(space, point) == point
