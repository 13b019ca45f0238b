"""Conditional spaces against a membership test written out by hand and a brute-force product."""

import itertools
import random
from typing import Any

import optuna
import pytest

from search_spaces.space import SearchSpace

CONDITIONAL: dict[str, Any] = {
    "tau": {"float": [0.5, 8], "log": True, "when": {"policy": ["fixed", "fixed_teacher"]}},
    "divergence": {"choice": ["forward_kl", "reverse_kl", "generalized_jsd"]},
    "policy": {"choice": ["fixed", "fixed_teacher", "cist"]},
    "rho_per_log_vocab": {"float": [0.5, 2], "when": {"policy": "cist"}},
    "beta": {"float": [0.05, 0.95], "when": {"divergence": "generalized_jsd"}},
    "detach": {"choice": [True, False], "when": {"policy": "cist"}},
    "deep": {"int": [1, 2], "when": {"detach": True, "divergence": "generalized_jsd"}},
}
DISCRETE: dict[str, Any] = {
    "a": {"choice": ["x", "y"]},
    "b": {"int": [1, 3], "when": {"a": "x"}},
    "c": {"fixed": 7, "when": {"b": [2, 3]}},
    "d": {"choice": [True, False], "when": {"a": "y"}},
}


def is_point(values: dict[str, Any]) -> bool:
    """The conditional space once more, by hand."""
    cist = values["policy"] == "cist"
    wanted = {"divergence", "policy"} | ({"rho_per_log_vocab", "detach"} if cist else {"tau"})
    if values["divergence"] == "generalized_jsd":
        wanted.add("beta")
        if cist and values["detach"]:
            wanted.add("deep")
    return set(values) == wanted


def test_drawn_points_are_points_and_cover_every_branch() -> None:
    space = SearchSpace.parse(CONDITIONAL)
    rng = random.Random(0)
    drawn = [space.draw(rng) for _ in range(300)]
    assert all(is_point(values) and space.contains(values) for values in drawn)
    branches = {(values["divergence"], values["policy"]) for values in drawn}
    assert len(branches) == 9
    assert any("deep" in values for values in drawn)


def test_draw_is_seeded() -> None:
    space = SearchSpace.parse(CONDITIONAL)
    assert space.draw(random.Random(5)) == space.draw(random.Random(5))
    assert space.draw(random.Random(5)) != space.draw(random.Random(6))


@pytest.mark.parametrize("per_range", [1, 2, 3])
def test_enumerate_is_the_product_without_repeats(per_range: int) -> None:
    space = SearchSpace.parse(CONDITIONAL)
    found = list(space.enumerate(per_range))
    axes = {name: domain.points(per_range) for name, domain in space.domains.items()}
    expected = set()
    for combination in itertools.product(*axes.values()):
        full = dict(zip(axes, combination, strict=True))
        point: dict[str, Any] = {k: full[k] for k in ("divergence", "policy")}
        if full["policy"] == "cist":
            point |= {k: full[k] for k in ("rho_per_log_vocab", "detach")}
        else:
            point["tau"] = full["tau"]
        if full["divergence"] == "generalized_jsd":
            point["beta"] = full["beta"]
            if point.get("detach"):
                point["deep"] = full["deep"]
        expected.add(frozenset(point.items()))
    assert len(found) == len(expected) == space.size(per_range)
    assert {frozenset(point.items()) for point in found} == expected


def test_size_of_a_discrete_space_is_counted_by_hand() -> None:
    space = SearchSpace.parse(DISCRETE)
    # a=x: b=1, (b=2, c=7), (b=3, c=7); a=y: two values of d.
    assert space.size() == 5
    assert list(space.enumerate(99)) == [
        {"a": "x", "b": 1},
        {"a": "x", "b": 2, "c": 7},
        {"a": "x", "b": 3, "c": 7},
        {"a": "y", "d": True},
        {"a": "y", "d": False},
    ]


def test_size_is_none_for_a_continuum_and_quick_for_large_ranges() -> None:
    assert SearchSpace.parse(CONDITIONAL).size() is None
    large = {name: {"int": [1, 10**6]} for name in "abcd"}
    assert SearchSpace.parse(large).size() == 10**24


def test_the_empty_space_has_one_point() -> None:
    space = SearchSpace.parse({})
    assert space.size() == 1
    assert list(space.enumerate(3)) == [{}]


def test_parents_come_first_and_the_rest_keeps_its_order() -> None:
    assert SearchSpace.parse(CONDITIONAL).names == [
        "divergence",
        "policy",
        "tau",
        "rho_per_log_vocab",
        "beta",
        "detach",
        "deep",
    ]


def test_active_ignores_values_of_inactive_names() -> None:
    space = SearchSpace.parse(CONDITIONAL)
    values = {"divergence": "generalized_jsd", "policy": "fixed", "detach": True, "deep": 1}
    assert space.active(values) == ["divergence", "policy", "tau", "beta"]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"divergence": "forward_kl", "policy": "fixed"}, "'tau' is missing"),
        (
            {"divergence": "forward_kl", "policy": "cist", "tau": 1.0},
            "'tau' is used only when policy is fixed or fixed_teacher",
        ),
        (
            {"divergence": "forward_kl", "policy": "fixed", "tau": 9.0},
            "tau=9.0 is not float 0.5 to 8, log",
        ),
        ({"divergence": "forward_kl", "policy": "fixed", "tua": 1.0}, "'tua' is not searched"),
        ({"divergence": "forward_kl", "policy": "fixed", "tau": 1.0}, None),
    ],
)
def test_problem_says_why_values_are_no_point(values: dict[str, Any], problem: str | None) -> None:
    assert SearchSpace.parse(CONDITIONAL).problem(values) == problem


def test_suggest_asks_for_active_names_and_repeats_itself() -> None:
    space = SearchSpace.parse(CONDITIONAL)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(40):
        trial = study.ask()
        values = space.suggest(trial)
        assert is_point(values)
        assert trial.params == values == space.suggest(trial)
        assert trial.distributions == space.distributions(values)


def test_has_conditions() -> None:
    assert SearchSpace.parse(CONDITIONAL).has_conditions
    assert not SearchSpace.parse({"tau": {"float": [1, 2]}}).has_conditions


def test_to_search_reads_back() -> None:
    space = SearchSpace.parse(CONDITIONAL)
    assert SearchSpace.parse(space.to_search()) == space
    assert space.to_search()["policy"] == {"choice": ["fixed", "fixed_teacher", "cist"]}


def test_explain() -> None:
    rows = {row["name"]: row for row in SearchSpace.parse(CONDITIONAL).explain()}
    assert rows["tau"]["condition"] == "policy is fixed or fixed_teacher"
    assert rows["deep"]["condition"] == "detach is True and divergence is generalized_jsd"
    assert rows["policy"] == {
        "name": "policy",
        "domain": "one of fixed, fixed_teacher, cist",
        "condition": "",
    }


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            {"p": {"choice": [1]}, "t": {"int": [1, 2], "when": {"policy": 1}}},
            r"search\.t: when must name another searched hyperparameter \(p\), but got 'policy'",
        ),
        (
            {"policy": {"choice": [1]}, "t": {"int": [1, 2], "when": {"polcy": 1}}},
            r"but got 'polcy'\. Did you mean 'policy'\?",
        ),
        (
            {"t": {"int": [1, 2], "when": {"t": 1}}},
            r"search\.t: when must name another searched hyperparameter \(there is none\)",
        ),
        (
            {"p": {"choice": ["fixed", "cist"]}, "t": {"int": [1, 2], "when": {"p": "fixd"}}},
            r"a value that 'p' can take \(one of fixed, cist\), but got 'fixd'.*'fixed'",
        ),
        (
            {"p": {"choice": [1, 2]}, "t": {"int": [1, 2], "when": {"p": [1, True]}}},
            r"a value that 'p' can take \(one of 1, 2\), but got True",
        ),
        (
            {"x": {"float": [1, 2]}, "t": {"int": [1, 2], "when": {"x": 1}}},
            r"must name a hyperparameter with separate values, but got 'x', which is float 1 to 2",
        ),
        (
            {
                "a": {"int": [1, 2], "when": {"b": 1}},
                "b": {"int": [1, 2], "when": {"c": 1}},
                "c": {"int": [1, 2], "when": {"a": 1}},
            },
            r"search: conditions must not depend on each other in a circle, but got",
        ),
        ({"tau": {"float": [2, 1]}}, r"^search\.tau: low <= high must hold"),
    ],
)
def test_wrong_conditions_are_refused(search: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchSpace.parse(search)
