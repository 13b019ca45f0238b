"""The same contract for every sampler, on a space with and one without conditions."""

import random
import subprocess
import sys
from typing import Any

import optuna
import pytest
from pydantic import TypeAdapter, ValidationError

from search_spaces.grid import GridSampler
from search_spaces.samplers import CmaEs, Gp, Grid, NsgaII, Random, Sampler, Tpe
from search_spaces.space import SearchSpace

CONDITIONAL = SearchSpace.parse(
    {
        "policy": {"choice": ["fixed", "cist"]},
        "tau": {"float": [0.5, 8], "log": True, "when": {"policy": "fixed"}},
        "rho": {"float": [0.5, 2], "when": {"policy": "cist"}},
        "learning_rate": {"float": [1e-4, 1e-2], "log": True},
        "seed": {"fixed": 3},
    }
)
PLAIN = SearchSpace.parse(
    {
        "tau": {"float": [0.5, 8], "log": True},
        "beta": {"float": [0, 1]},
        "epochs": {"int": [1, 4]},
    }
)
SPACES = {"conditional": CONDITIONAL, "plain": PLAIN}
SAMPLERS: list[Sampler] = [
    Tpe(num_startup=4),
    Random(),
    Grid(points_per_range=3),
    Gp(num_startup=4),
    CmaEs(),
    NsgaII(population_size=4),
]


def run(sampler: Sampler, space: SearchSpace, trials: int, *, seed: int = 0) -> list[Any]:
    """The points of a study that asks `sampler` one trial after another."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    several = sampler.kind == "nsgaii"
    study = optuna.create_study(directions=["maximize"] * (2 if several else 1))
    points = []
    for index in range(trials):
        study.sampler = sampler.build(space, index + seed)
        trial = study.ask()
        point = space.suggest(trial)
        points.append(point)
        goodness = -abs(float(point.get("tau", 4.0)) - 2)
        study.tell(trial, [goodness, 1.0] if several else goodness)
    return points


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.kind)
@pytest.mark.parametrize("name", SPACES)
def test_every_sampler_stays_in_the_space(sampler: Sampler, name: str) -> None:
    points = run(sampler, SPACES[name], 12)
    assert [SPACES[name].problem(point) for point in points] == [None] * 12


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.kind)
@pytest.mark.parametrize("name", SPACES)
def test_every_sampler_repeats_itself_from_its_seed(sampler: Sampler, name: str) -> None:
    first = run(sampler, SPACES[name], 8)
    assert run(sampler, SPACES[name], 8) == first
    if sampler.kind != "grid":
        other = sampler.model_copy(update={"seed": 1})
        assert run(other, SPACES[name], 8) != first
        assert len({str(point) for point in first}) == 8


@pytest.mark.parametrize("name", SPACES)
def test_the_grid_visits_every_point_once(name: str) -> None:
    sampler, space = Grid(points_per_range=2), SPACES[name]
    size = sampler.num_points(space)
    assert size is not None
    points = run(sampler, space, size)
    assert len({frozenset(point.items()) for point in points}) == size
    expected = {frozenset(point.items()) for point in space.enumerate(2)}
    assert {frozenset(point.items()) for point in points} == expected


def test_the_grid_skips_what_the_study_holds_in_any_state() -> None:
    space = SearchSpace.parse({"n": {"int": [1, 4]}})
    study = optuna.create_study(sampler=Grid(points_per_range=4).build(space))
    study.enqueue_trial({"n": 2})
    running, failed = study.ask(), study.ask()
    assert (space.suggest(running), space.suggest(failed)) == ({"n": 2}, {"n": 1})
    study.tell(failed, state=optuna.trial.TrialState.FAIL)
    sampler = Grid(points_per_range=4).build(space)
    assert isinstance(sampler, GridSampler)
    assert list(sampler.untried(study)) == [{"n": 3}, {"n": 4}]
    study.sampler = sampler
    assert space.suggest(study.ask()) == {"n": 3}


def test_the_grid_completes_a_trial_that_was_cut_short() -> None:
    space = SPACES["conditional"]
    study = optuna.create_study(sampler=Grid(points_per_range=2).build(space))
    space.suggest(study.ask())
    trial = study.ask()
    trial.suggest_categorical("policy", ["fixed", "cist"])
    study.sampler = Grid(points_per_range=2).build(space)
    again = optuna.trial.Trial(study, trial._trial_id)
    point = space.suggest(again)
    assert space.contains(point)
    assert point["policy"] == again.params["policy"]


def test_the_grid_says_which_point_it_lacks() -> None:
    space = SPACES["plain"]
    study = optuna.create_study(sampler=Grid(points_per_range=2).build(space))
    study.enqueue_trial({"tau": 1.234})
    with pytest.raises(ValueError, match=r"grid must have a point with 'beta'.*1\.234"):
        space.suggest(study.ask())


@pytest.mark.parametrize("kind", ["tpe", "cmaes", "gp"])
def test_learning_samplers_come_closer_than_chance(kind: str) -> None:
    space = SearchSpace.parse({"tau": {"float": [0.1, 100]}, "beta": {"float": [0, 1]}})
    sampler = next(sampler for sampler in SAMPLERS if sampler.kind == kind)
    late = [abs(float(point["tau"]) - 2) for point in run(sampler, space, 30)[20:]]
    rng = random.Random(0)
    chance = sorted(abs(float(space.draw(rng)["tau"]) - 2) for _ in range(1000))[500]
    assert sorted(late)[len(late) // 2] < chance / 2


@pytest.mark.parametrize("sampler", [Tpe(), Random(), Grid()], ids=lambda s: s.kind)
@pytest.mark.parametrize("name", SPACES)
def test_these_go_with_any_space(sampler: Sampler, name: str) -> None:
    assert sampler.check(SPACES[name]) == []


def test_conditions_are_named_where_they_are_not_modelled() -> None:
    assert Gp().check(CONDITIONAL) == [
        "sampler: gp models hyperparameters without a condition only; "
        "tau, rho would be drawn independently, at random"
    ]
    assert CmaEs().check(CONDITIONAL) == [
        "sampler: cmaes models float and int hyperparameters without a condition only; "
        "policy, tau, rho would be drawn independently, at random"
    ]
    assert Gp().check(PLAIN) == CmaEs().check(PLAIN) == NsgaII().check(PLAIN, 2) == []


def test_a_sampler_that_can_model_nothing_is_refused() -> None:
    lists = SearchSpace.parse({"policy": {"choice": ["fixed", "cist"]}})
    with pytest.raises(ValueError, match=r"cmaes models float and int .* none \(policy\)"):
        CmaEs().check(lists)
    assert Gp().check(lists) == []


def test_the_number_of_objectives_is_checked() -> None:
    with pytest.raises(ValueError, match="cmaes must have one objective, but got 2"):
        CmaEs().check(PLAIN, 2)
    with pytest.raises(ValueError, match="nsgaii must have two objectives or more, but got 1"):
        NsgaII().check(PLAIN)
    assert Tpe().check(PLAIN, 2) == []


def test_a_plan_needs_no_heavy_import() -> None:
    code = (
        "import sys, search_spaces.samplers, service.search.early_stopping;"
        "found = {'optuna', 'torch', 'mlflow', 'ray', 'numpy'} & set(sys.modules);"
        "sys.exit(' '.join(found) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_options_are_strict() -> None:
    adapter: TypeAdapter[Sampler] = TypeAdapter(Sampler)
    assert adapter.validate_python({"kind": "grid"}) == Grid(points_per_range=5)
    assert adapter.validate_python({"kind": "tpe", "seed": 7}) == Tpe(seed=7)
    with pytest.raises(ValidationError, match="num_starup"):
        adapter.validate_python({"kind": "tpe", "num_starup": 3})
    with pytest.raises(ValidationError, match="'tpe', 'random', 'grid', 'gp', 'cmaes', 'nsgaii'"):
        adapter.validate_python({"kind": "tree"})
