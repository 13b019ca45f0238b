"""A cache that is not exact, held against what a sweep tells apart."""

from typing import Any

import pytest

from service.errors import PlanError, SpecError
from service.plan.bias import check_bias, conversion_text, worst_bias
from service.plan.estimates import InputFacts
from service.plan.known_cache import KnownCache
from service.plan.plan import SweepPlan, make_plan
from service.plan.resources import Resources
from service.spec.document import SweepSpec
from service.spec.parse import parse_spec

# forward, and reverse twice as much: grows with tau, falls with rho
ROWS = [
    {"policy": "fixed", "at": tau, "forward": tau / 100, "reverse": tau / 50}
    for tau in (0.5, 1.0, 2.0, 4.0, 8.0)
] + [
    {"policy": "cist", "at": c, "forward": 0.1 / c, "reverse": 0.2 / c}
    for c in (0.8, 1.0, 1.2, 1.4, 1.6)
]


def spec(search: dict[str, Any], **section: Any) -> SweepSpec:
    document = {
        "name": "bias",
        "teacher": {"model": "teacher"},
        "student": {"model": "student"},
        "data": {"train": "a", "validation": "b"},
        "search": search,
        "teacher_cache": {"top_k": 64} | section,
    }
    return parse_spec(document)


def test_how_far_a_converted_teacher_is_off_is_said_and_none_is_refused() -> None:
    made = spec({"tau": {"fixed": 8.0}}, max_bias=0.01)
    said = conversion_text(made, ROWS, 100)
    assert (
        "asked in a narrower dtype" in said and "0.08 of itself away" in said and "at tau 8" in said
    )
    assert conversion_text(made, [], 100) == ""


TAU = {"tau": {"float": [0.7, 3]}}


@pytest.mark.parametrize(
    ("search", "error", "at"),
    [
        (TAU, 0.04, "tau 4"),
        (TAU | {"divergence": {"choice": ["forward_kl", "reverse_kl"]}}, 0.08, "tau 4"),
        ({"tau": {"choice": [1, 2]}}, 0.02, "tau 2"),
        ({"tau": {"choice": [20, 30]}}, 0.08, "tau 8"),
        (
            {"policy": {"choice": ["cist"]}, "rho_per_log_vocab": {"float": [1.1, 1.5]}},
            0.1,
            "rho_per_log_vocab 1",
        ),
        # rho 9.2 is c = 1.33 where V = 1000
        (
            {"policy": {"choice": ["cist"]}, "rho": {"choice": [9.2]}},
            0.1 / 1.2,
            "rho_per_log_vocab",
        ),
    ],
)
def test_the_temperatures_that_are_tried_decide(
    search: dict[str, Any], error: float, at: str
) -> None:
    found = worst_bias(spec(search), ROWS, 1000)
    assert found.error == pytest.approx(error)
    assert found.at.startswith(at)


def test_more_than_the_sweep_allows_is_refused_with_what_would_allow_it() -> None:
    wide = {"tau": {"float": [0.5, 8]}}
    refused = r"top64 must .* within max_bias=0.05 .* got 0.08 at tau 8.*max_bias: 0.08\."
    with pytest.raises(PlanError, match=f"(?s){refused}"):
        check_bias(spec(wide), "top64", ROWS, 1000)
    told = check_bias(spec(wide, max_bias=0.1), "top64", ROWS, 1000)
    assert "stores top64" in told and "0.08 of itself (at tau 8" in told
    assert check_bias(spec(wide), "float16", [], 1000) == ""


def test_the_document_names_one_way_to_store_and_keeps_its_ids() -> None:
    assert spec(TAU).teacher_cache.storage == "top64"
    assert spec(TAU, top_k=None, dtype="float16").teacher_cache.storage == "float16"
    with pytest.raises(SpecError, match="top_k: it must be given without dtype"):
        spec(TAU, dtype="float16")
    images = {"name": "images", "task": "image_classification", "search": TAU}
    images |= {role: {"model": role} for role in ("teacher", "student")}
    images |= {"data": {"train": "a", "validation": "b"}, "teacher_cache": {"top_k": 4}}
    with pytest.raises(SpecError, match=r"top_k: it needs a vocabulary, but got 4 in image_class"):
        parse_spec(images)
    plain = spec(TAU, top_k=None).model_dump(mode="json")["teacher_cache"]
    assert {"top_k", "max_bias"}.isdisjoint(plain)


def planned(search: dict[str, Any], caches: list[KnownCache], **section: Any) -> SweepPlan:
    facts = InputFacts(vocab_size=100, caches=caches)
    return make_plan(spec(search, **section), facts, Resources(num_cpus=4), code_version="1")


def test_a_plan_says_what_a_cache_that_is_there_has_measured() -> None:
    others = KnownCache(stored="top16", bias=[{**row, "forward": 9.0} for row in ROWS])
    ours = KnownCache(stored="top64", bias=ROWS, conversion=ROWS)
    made = planned(TAU, [others, ours, ours])
    bias, conversion = made.teacher_errors
    assert "stores top64" in bias and "at most 0.04 of itself (at tau 4" in bias
    assert "narrower dtype" in conversion
    assert planned(TAU, [others]).teacher_errors == ()


def test_a_plan_over_temperatures_that_a_cache_does_not_tell_apart_is_refused() -> None:
    search = {"tau": {"float": [0.7, 8]}}
    known = [KnownCache(stored="top64", bias=ROWS)]
    with pytest.raises(PlanError, match=r"got 0\.08 at tau 8.*max_bias: 0\.08"):
        planned(search, known)
    assert planned(search, known, max_bias=0.2).teacher_errors
    assert planned(search, known, top_k=None).teacher_errors == ()  # the exact cache is another one
