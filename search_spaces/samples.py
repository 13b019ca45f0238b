"""Points that stand for a whole search space: whatever breaks somewhere should break at one of
them."""

import random
from collections.abc import Iterator

from search_spaces.domains import Float, Int
from search_spaces.space import Point, SearchSpace

MOST_CORNERS = 3000
RANDOM_POINTS = 300


def samples(space: SearchSpace) -> Iterator[Point]:
    """Yields the corners of every branch unless they are too many, and seeded draws, each also with
    all ranges at their lower and at their upper ends."""
    corners = space.size(2)
    if corners is not None and corners <= MOST_CORNERS:
        yield from space.enumerate(2)
    rng = random.Random(0)
    for _ in range(RANDOM_POINTS):
        drawn = space.draw(rng)
        yield drawn
        for end in (0, -1):
            moved = drawn | {
                name: domain.points(2)[end]
                for name, domain in space.domains.items()
                if name in drawn and isinstance(domain, Float | Int)
            }
            if space.contains(moved):  # not where a condition hangs on a range
                yield moved
