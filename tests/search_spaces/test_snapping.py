"""A value is one of its domain's points, whichever way it was computed; counts against walks."""

import random
from fractions import Fraction
from typing import Any

import optuna
import pytest

from search_spaces.grid import GridSampler
from search_spaces.parsing import parse_domain
from search_spaces.samplers import CmaEs, Grid, Random, Tpe
from search_spaces.space import SearchSpace

TAU = {"float": [0.1, 0.5], "step": 0.1}
WHEN_TAU: dict[str, Any] = {
    "tau": TAU,
    "beta": {"float": [0, 1], "when": {"tau": 0.3}},
    "alpha": {"choice": [1, 2], "when": {"tau": [0.2, 0.4]}},
}


@pytest.mark.parametrize("value", [0.3, 0.1 + 0.2, 0.5 - 0.2, 3 / 10, 0.30000000000000004])
def test_a_step_is_met_however_it_was_computed(value: float) -> None:
    domain = parse_domain("search.tau", TAU)
    assert domain.contains(value)
    assert domain.snap(value) == domain.points(5)[2]
    space = SearchSpace.parse(WHEN_TAU)
    assert space.is_active("beta", {"tau": value})
    assert not space.is_active("alpha", {"tau": value})
    assert space.contains({"tau": value, "beta": 0.5})


@pytest.mark.parametrize(
    ("low", "high", "step"),
    [("0.1", "0.5", "0.1"), ("0.1", "2.5", "0.3"), ("-0.3", "0.3", "0.1"), ("1", "9", "2"),
     ("0", "1", "0.05"), ("-1.1", "7.7", "0.011"), ("1e-6", "1e-4", "1e-6")],
)  # fmt: skip
def test_every_step_as_it_is_written_is_a_point(low: str, high: str, step: str) -> None:
    """Each point computed exactly and rounded once, as its decimal in a file is, and its point."""
    domain = parse_domain("search.x", {"float": [float(low), float(high)], "step": float(step)})
    count = (Fraction(high) - Fraction(low)) / Fraction(step)
    assert domain.size() == count + 1
    points = domain.points(int(count) + 1)
    for index in range(int(count) + 1):
        written = float(Fraction(low) + index * Fraction(step))
        assert domain.snap(written) == points[index]
        assert domain.snap(points[index]) == points[index]
        assert domain.snap(written + 0.4 * float(step)) is None
    assert domain.snap(float(low) - float(step)) is None
    assert domain.snap(float(high) + float(step)) is None


@pytest.mark.parametrize("sampler", [Tpe(num_startup=2), Random(), Grid(), CmaEs()])
def test_what_a_sampler_gives_meets_a_condition(sampler: Any) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = SearchSpace.parse({**WHEN_TAU, "gamma": {"float": [0, 1]}})
    study = optuna.create_study(sampler=sampler.build(space))
    points = space.domains["tau"].points(5)
    seen = set()
    for _ in range(60):
        trial = study.ask()
        values = space.suggest(trial)
        tau = points.index(values["tau"])  # no neighbour of it
        assert ("beta" in values) == (tau == 2)
        assert ("alpha" in values) == (tau in (1, 3))
        study.tell(trial, 0.0)
        seen.add(tau)
    assert {1, 2, 3} <= seen


def test_an_enqueued_value_becomes_its_point() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = SearchSpace.parse(WHEN_TAU)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial({"tau": 0.3, "beta": 0.5})
    assert space.suggest(study.ask()) == {"tau": 0.1 + 2 * 0.1, "beta": 0.5}


def test_the_grid_knows_a_point_of_the_study_by_any_writing() -> None:
    space = SearchSpace.parse({"tau": TAU})
    study = optuna.create_study(sampler=Grid().build(space))
    study.enqueue_trial({"tau": 0.3})
    space.suggest(study.ask())
    sampler = Grid().build(space)
    assert isinstance(sampler, GridSampler)
    assert [point["tau"] for point in sampler.untried(study)] == [0.1, 0.2, 0.4, 0.5]


def test_the_grid_finds_a_point_whose_value_was_rounded() -> None:
    space = SearchSpace.parse({"tau": {"float": [0.5, 8], "log": True}})
    assert Grid(points_per_range=5).point_at(space, {"tau": 2 * (1 + 1e-15)}) == {"tau": 2.0}
    assert Grid(points_per_range=5).point_at(space, {"tau": 2.001}) is None


@pytest.mark.parametrize(
    ("written", "value", "point"),
    [
        ({"float": [0.1, 0.3]}, 0.1 + 0.2, 0.3),
        ({"float": [0.1, 0.3]}, 0.301, None),
        ({"float": [0.3, 0.3]}, 0.1 + 0.2, 0.3),
        ({"float": [1, 8], "log": True}, 8, 8.0),
        ({"float": [0, 4], "step": 1}, 3, 3.0),
        ({"int": [1, 8]}, 3.0, 3),
        ({"int": [1, 8]}, 2.9999999999999996, 3),
        ({"int": [1, 8]}, 3.1, None),
        ({"choice": [0.1, 0.3]}, 0.1 + 0.2, 0.3),
        ({"choice": [0.3, 0.1 + 0.2]}, 0.1 + 0.2, 0.1 + 0.2),
        ({"choice": [1, "a"]}, True, None),
        ({"fixed": 0.3}, 0.1 + 0.2, 0.3),
        ({"int": [1, 8]}, float("inf"), None),
        ({"int": [1, 8]}, float("nan"), None),
        ({"int": [1, 8]}, 10**400, None),
        ({"float": [1, 8]}, 10**400, None),
        ({"float": [1, 8], "step": 1}, -(10**400), None),
        ({"choice": [1.5]}, 10**400, None),
        ({"choice": [1.5]}, [1.5], None),
    ],
)
def test_the_point_of_a_value(written: dict[str, object], value: object, point: object) -> None:
    domain = parse_domain("search.x", written)
    snapped = domain.snap(value)
    assert snapped == point
    assert type(snapped) is type(point)


def test_draws_are_what_they_were() -> None:
    """The points of a step are low + n * step to the last digit, in files, draws and studies."""
    domain = parse_domain("search.tau", TAU)
    rng, same_rng = random.Random(5), random.Random(5)
    for _ in range(50):
        assert domain.draw(rng) == min(0.1 + same_rng.randrange(5) * 0.1, 0.5)


def test_spaces_are_counted_as_they_are_walked() -> None:
    rng = random.Random(1)
    for _ in range(150):
        space = SearchSpace.parse(_random_search(rng))
        for count in (1, 2, 4):
            assert space.size(count) == sum(1 for _ in space.enumerate(count))


def _random_search(rng: random.Random) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = [
        {"choice": ["a", "b", "c"]},
        {"int": [1, 5]},
        {"float": [0.1, 0.5], "step": 0.1},
        {"fixed": True},
        {"choice": [True, "x"]},
    ]
    search: dict[str, Any] = {}
    for index in range(rng.randint(1, 6)):
        domain = dict(rng.choice(kinds))
        for parent in rng.sample(sorted(search), min(len(search), rng.randint(0, 2))):
            values = parse_domain("x", {k: v for k, v in search[parent].items() if k != "when"})
            points = values.points(9)
            wanted = rng.sample(points, rng.randint(1, len(points)))
            domain["when"] = {**domain.get("when", {}), parent: wanted}
        search[f"n{index}"] = domain
    return search


def test_large_spaces_are_counted_at_once() -> None:
    search: dict[str, Any] = {f"p{index}": {"float": [0, 1], "step": 1e-9} for index in range(20)}
    search["leaf"] = {"int": [1, 2], "when": {"p0": 0.5, "p1": [0.25, 0.75]}}
    space = SearchSpace.parse(search)
    other = 10**9 + 1
    # The leaf doubles two of the pairs of its parents' values.
    assert space.size() == (other**2 + 2) * other**18
    assert space.size(2) == 2**20


def test_a_space_of_too_many_branches_has_at_least_so_many_points() -> None:
    values = list(range(20))
    search: dict[str, Any] = {f"p{index}": {"choice": values} for index in range(12)}
    search |= {
        f"leaf{value}": {"fixed": 1, "when": {f"p{index}": value for index in range(12)}}
        for value in values
    }
    size = SearchSpace.parse(search).size()
    assert size is not None
    assert 20**12 <= size <= 20**12 + 20


def test_a_grid_without_end_gives_its_first_points_at_once() -> None:
    space = SearchSpace.parse({f"n{index}": {"float": [0, 1]} for index in range(30)})
    study = optuna.create_study(sampler=Grid(points_per_range=10).build(space))
    first, second = (space.suggest(study.ask()) for _ in range(2))
    assert set(first.values()) == {0.0}
    assert second == {**first, "n29": pytest.approx(1 / 9)}
