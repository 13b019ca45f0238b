"""Importances of planted effects."""

import random

import pytest

from search_spaces.importance import importances
from search_spaces.space import Point, SearchSpace

SPACE = SearchSpace.parse(
    {
        "policy": {"choice": ["fixed", "cist"]},
        "tau": {"float": [0.5, 8], "log": True, "when": {"policy": "fixed"}},
        "rho": {"float": [0.5, 2], "when": {"policy": "cist"}},
        "hard_weight": {"float": [0, 1]},
        "seed": {"int": [1, 5]},
    }
)


def drawn(num: int) -> list[Point]:
    rng = random.Random(0)
    return [SPACE.draw(rng) for _ in range(num)]


def test_what_decides_comes_first() -> None:
    points = drawn(300)
    found = importances(SPACE, points, [-abs(float(p["hard_weight"]) - 0.3) for p in points])
    assert next(iter(found)) == "hard_weight"
    assert found["hard_weight"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert found.keys() == {"policy", "tau", "rho", "hard_weight", "seed"}


def test_a_hyperparameter_of_one_branch_may_decide() -> None:
    points = drawn(300)
    scores = [-abs(float(p["tau"]) - 2) if "tau" in p else -9.0 for p in points]
    found = importances(SPACE, points, scores)
    assert set(list(found)[:2]) == {"tau", "policy"}
    assert found["seed"] < 0.1 and found["rho"] < 0.05


def test_the_same_points_give_the_same_shares_in_the_same_order() -> None:
    points = drawn(40)
    scores = [float(p["hard_weight"]) for p in points]
    assert list(importances(SPACE, points, scores).items()) == list(
        importances(SPACE, points, scores).items()
    )


def test_too_little_has_no_importance() -> None:
    points = drawn(30)
    scores = [float(p["hard_weight"]) for p in points]
    assert importances(SPACE, points[:19], scores[:19]) == {}
    assert importances(SPACE, points, [1.0] * 30) == {}
    elsewhere: list[Point] = [{"nothing": 1.0}] * 30
    assert importances(SPACE, elsewhere, scores) == {}
    assert importances(SPACE, points[:1] * 30, scores) == {}
