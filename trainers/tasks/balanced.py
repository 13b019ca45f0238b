"""Draws some of the examples by a seed, of each class as many."""

import numpy as np
from numpy.typing import NDArray


def balanced(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Returns the numbers of `count` of the examples, in order: of each class as many (but for the
    remainder, and classes that have fewer), drawn by `seed`. A larger count of the same seed has
    them all. labels: the class of each example."""
    order = np.random.default_rng(seed).permutation(len(labels))
    # The first of every class, then the second of every class, …
    turns = np.zeros(len(labels), np.int64)
    seen: dict[int, int] = {}
    for place, label in enumerate(labels[order].tolist()):
        turns[place] = seen[label] = seen.get(label, -1) + 1
    return np.sort(order[np.argsort(turns, kind="stable")[:count]])
