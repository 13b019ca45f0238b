"""Which points of a search are said to be tried twice, and which are not."""

from typing import Any

import pytest

from service.plan.duplicates import duplicates
from service.spec.parse import parse_spec

DOCUMENT: dict[str, Any] = {
    "name": "twice",
    "teacher": {"model": "teacher"},
    "student": {"model": "student"},
    "data": {"train": "a", "validation": "b"},
}
GRID = {"kind": "grid", "points_per_range": 3}
POLICIES = {"choice": ["fixed", "fixed_teacher", "token_adaptive"]}


def told(search: dict[str, Any], **fields: Any) -> list[str]:
    spec = parse_spec(DOCUMENT | {"search": search} | fields)
    return [sentence.split(", so that")[0] for sentence in duplicates(spec)]


def among(*names: str, **more: dict[str, Any]) -> dict[str, Any]:
    return {"divergence": {"choice": list(names)}, **more}


def when(divergence: str, **domain: Any) -> dict[str, Any]:
    return domain | {"when": {"divergence": divergence}}


@pytest.mark.parametrize(
    ("search", "sampler"),
    [
        # Skew runs at its default, whatever alpha_beta's alpha is.
        (
            among(
                "forward_kl",
                "skew_forward_kl",
                "alpha_beta",
                alpha=when("alpha_beta", choice=[0, 1]),
            ),
            {"kind": "tpe"},
        ),
        (among("forward_kl", "jeffreys", weight=when("jeffreys", float=[0, 1])), {"kind": "tpe"}),
        (among("forward_kl", "jeffreys", weight=when("jeffreys", float=[0.1, 0.9])), GRID),
        ({"policy": POLICIES, "tau": {"float": [0.5, 1.5]}}, {"kind": "tpe"}),
        (
            {
                "divergence": {"choice": ["forward_kl", "jeffreys"]},
                "weight": when("jeffreys", choice=[0, 0.5]),
                "soft_weight": {"fixed": 0},
            },
            GRID,
        ),
        # Only next to different teachers' temperatures.
        (
            {
                "policy": {"choice": ["fixed", "fixed_teacher"]},
                "tau": {"choice": [1, 2], "when": {"policy": "fixed_teacher"}},
                "scaling": {"fixed": "none", "when": {"policy": "fixed_teacher"}},
                "divergence": {"fixed": "reverse_kl", "when": {"policy": "fixed"}},
            },
            GRID,
        ),
    ],
)
def test_nothing_is_said_where_no_point_comes_twice(
    search: dict[str, Any], sampler: dict[str, Any]
) -> None:
    assert told(search, sampler=sampler) == []


@pytest.mark.parametrize(
    ("weight", "sampler"),
    [
        ({"float": [0, 1]}, GRID),
        ({"float": [0, 1], "step": 0.25}, {"kind": "tpe"}),
        ({"choice": ["0", "1", 0.5]}, {"kind": "tpe"}),
    ],
)
def test_values_that_are_tried_on_purpose_count(
    weight: dict[str, Any], sampler: dict[str, Any]
) -> None:
    search = among("forward_kl", "reverse_kl", "jeffreys", weight=when("jeffreys", **weight))
    assert told(search, sampler=sampler) == [
        "jeffreys with weight 0.0 has exactly the gradient of forward_kl",
        "jeffreys with weight 1.0 has exactly the gradient of reverse_kl",
    ]


def test_two_twins_of_one_that_is_not_searched() -> None:
    search = among(
        "jeffreys",
        "skew_forward_kl",
        weight=when("jeffreys", choice=[0, 0.5]),
        alpha=when("skew_forward_kl", fixed=0),
    )
    assert told(search) == [
        "jeffreys with weight 0.0 and skew_forward_kl with alpha 0.0 have each exactly the "
        "gradient of forward_kl"
    ]


def test_policies_have_twins_too() -> None:
    adaptivity = {"choice": [0, 1], "when": {"policy": "token_adaptive"}}
    found = told({"policy": POLICIES, "tau": {"choice": [1, 2]}, "adaptivity": adaptivity})
    assert found == [
        "fixed_teacher with tau 1.0 has exactly the gradient of fixed",
        "token_adaptive with adaptivity 0.0 has exactly the gradient of fixed",
    ]


def test_a_start_at_the_teacher_is_forward_kl() -> None:
    search = among("forward_kl", "interpolated", mix_start=when("interpolated", choice=[0.4, 1]))
    assert told(search) == [
        "interpolated with mix_start 1.0 has exactly the gradient of forward_kl"
    ]


def test_what_does_not_tell_twins_apart_is_not_walked() -> None:
    wide = {"seed": {"int": [0, 10**6]}, "learning_rate": {"float": [1e-4, 1e-2]}}
    search = among("reverse_kl", "concrete_score", **wide)
    assert len(told(search, sampler=GRID)) == 1


def test_a_grid_too_wide_is_left_alone() -> None:
    search = among("alpha_beta", "forward_kl") | {
        "alpha": when("alpha_beta", float=[0, 1]),
        "beta": when("alpha_beta", float=[0, 1]),
    }
    assert told(search, sampler=GRID) != []
    assert told(search, sampler=GRID | {"points_per_range": 200}, trials=5) == []
