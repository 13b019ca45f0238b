"""Cached or online: what decides it, and what the plan says."""

from pathlib import Path
from typing import Any

import pytest
from fakes import make_document

from service.driver.shared_inputs import gpus_of_teacher
from service.errors import PlanError, SpecError
from service.plan.estimates import InputFacts, cache_bytes
from service.plan.places import teacher_caches_folder
from service.plan.plan import SweepPlan, make_plan
from service.plan.resources import Resources
from service.plan.teacher_choice import CacheCost, cache_dtypes, choose_teacher, hidden_states
from service.spec.document import SweepSpec
from service.spec.parse import parse_spec
from service.spec.paths import PathFinder, with_absolute_paths

GIB = 1024**3
KNOWN = InputFacts(
    num_train_examples=1000,
    num_train_tokens=50_000,
    num_validation_examples=100,
    vocab_size=1000,
    teacher_parameters=10_000_000,
    student_parameters=1000,
    teacher_hidden_size=64,
)
PAYS = CacheCost(bytes=GIB, disk_free=10 * GIB, tokens_held=1000, tokens_read=5000)


def spec(cache: dict[str, Any], **changes: Any) -> SweepSpec:
    return parse_spec(make_document(teacher_cache=cache, **changes))


def plan(cache: dict[str, Any], **changes: Any) -> SweepPlan:
    machine = Resources(num_cpus=2, disk_free=10 * GIB)
    made = spec(cache, training={"epochs": 2}, **changes)
    return make_plan(made, KNOWN, machine, code_version="1")


@pytest.mark.parametrize(
    ("cache", "changes", "cost", "reason"),
    [
        ({}, {}, PAYS, ""),
        ({"max_gib": 2}, {}, PAYS, ""),
        ({"mode": "required"}, {}, CacheCost(GIB, 10 * GIB, 1000, 10), ""),
        ({}, {}, CacheCost(), ""),
        ({"mode": "online"}, {}, PAYS, "teacher_cache.mode is online"),
        ({"max_gib": 0.5}, {}, PAYS, "the cache takes 1.0 GiB, above teacher_cache.max_gib=0.5"),
        ({}, {}, CacheCost(GIB, GIB), "takes 1.0 GiB, and the disk can spare 922 MiB"),
        ({}, {}, CacheCost(GIB, 10 * GIB, 1000, 900), "read less of the data than building"),
        ({}, {}, CacheCost(0, 10 * GIB, 1000, 900), ""),
        ({}, {"search": {"precision": {"fixed": "float32"}}}, PAYS, ""),
        ({}, {"text": {"student_share": 0.5}}, PAYS, r"asked about then (student_share=0.5)"),
        ({}, {"text": {"soft_prompt_tokens": 7}}, PAYS, "(soft_prompt_tokens=7)"),
        ({}, {"search": {"student_share": {"choice": [0.5, 1]}}}, PAYS, "(student_share=0.5)"),
    ],
)
def test_a_cache_serves_unless_there_is_a_reason(
    cache: dict[str, Any], changes: dict[str, Any], cost: CacheCost, reason: str
) -> None:
    choice = choose_teacher(spec(cache, **changes), ["float32"], cost)
    assert choice.source == ("online" if reason else "cache:float32")
    assert reason in choice.reason
    assert bool(reason) == bool(choice.reason)


def test_a_required_cache_that_cannot_be_is_refused() -> None:
    with pytest.raises(PlanError, match="required must be possible, but the cache takes 1.0 GiB"):
        choose_teacher(spec({"mode": "required", "max_gib": 0.5}), ["float32"], PAYS)


def test_a_cache_serves_the_trials_whose_students_write_nothing() -> None:
    searched = {"student_share": {"choice": [0, 0.5]}}
    choice = choose_teacher(spec({}, search=searched), ["float32"], PAYS)
    assert choice.source == "cache:float32" and "student_share=0.5" in choice.reason
    with pytest.raises(PlanError, match=r"required must be possible, but .*student_share=0\.5"):
        choose_teacher(spec({"mode": "required"}, search=searched), ["float32"], PAYS)


@pytest.mark.parametrize(
    ("cache", "training", "gpus", "dtype"),
    [
        ({}, {}, 0, "float32"),
        ({}, {}, 1, "bfloat16"),
        ({}, {"precision": "float32"}, 1, "float32"),
        ({"dtype": "float16"}, {"precision": "float32"}, 0, "float16"),
    ],
)
def test_what_is_stored_is_what_the_teacher_emits_unless_it_is_asked_for(
    cache: dict[str, Any], training: dict[str, Any], gpus: float, dtype: str
) -> None:
    made = spec(cache, training={"steps": 4} | training)
    assert cache_dtypes(made, gpus, None) == [dtype]


def test_a_teacher_that_computes_in_its_own_dtype_has_one_cache_for_all_precisions() -> None:
    search = {"precision": {"choice": ["float32", "bfloat16"]}}
    made = spec({}, search=search, controls="none")
    assert cache_dtypes(made, 0, None) == ["bfloat16", "float32"]
    assert cache_dtypes(made, 0, "float16") == ["float16"]


@pytest.mark.parametrize(
    ("search", "controls", "asked"),
    [
        ({}, "none", [("auto", None)]),
        ({"precision": ["float32", "bfloat16"]}, "none", [("float32", None), ("bfloat16", None)]),
        ({"precision": ["bfloat16"]}, "default", [("bfloat16", None), ("auto", None)]),
        (
            {"attention_implementation": ["eager", "sdpa"]},
            "none",
            [("auto", "eager"), ("auto", "sdpa")],
        ),
    ],
)
def test_each_precision_and_attention_of_any_trial_has_its_hidden_states(
    search: dict[str, list[str]], controls: str, asked: list[tuple[str, str | None]]
) -> None:
    domains = {name: {"choice": values} for name, values in search.items()}
    tau = {"tau": {"float": [1, 2]}}
    made = spec({}, search=domains | tau, controls=controls)
    assert [(each.precision, each.attention) for each in hidden_states(made)] == asked


def test_a_branch_without_the_searched_precision_has_the_default() -> None:
    search = {
        "policy": {"choice": ["fixed", "cist"]},
        "tau": {"float": [1, 2], "when": {"policy": "fixed"}},
        "rho": {"float": [5, 9], "when": {"policy": "cist"}},
        "precision": {"choice": ["bfloat16"], "when": {"policy": "cist"}},
    }
    asked = hidden_states(spec({}, search=search, controls="none"))
    assert [each.precision for each in asked] == ["bfloat16", "auto"]
    # on a CPU they differ, on a GPU auto is bfloat16
    made = spec({}, search=search, controls="none")
    assert cache_dtypes(made, 0, None) == ["bfloat16", "float32"]
    assert cache_dtypes(made, 1, None) == ["bfloat16"]


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({}, ["data"]),
        ({"text": {"responses": "teacher"}, "controls": "none"}, ["teacher"]),
        # the controls learn the data's
        ({"text": {"responses": "teacher"}, "controls": "default"}, ["data", "teacher"]),
        ({"search": {"responses": {"choice": ["teacher"]}}, "controls": "none"}, ["teacher"]),
        ({"search": {"responses": {"choice": ["teacher"]}}}, ["data", "teacher"]),
        (
            {"kind": "study", "cells": [{"responses": ["data", "teacher"]}], "controls": "none"},
            ["data", "teacher"],
        ),
        # null takes back what the section gives
        (
            {
                "kind": "study",
                "text": {"responses": "teacher"},
                "cells": [{"responses": [None, "teacher"]}],
                "controls": "none",
            },
            ["data", "teacher"],
        ),
    ],
)
def test_each_text_that_trials_learn_has_its_hidden_states(
    changes: dict[str, Any], texts: list[str]
) -> None:
    if changes.get("kind") == "study":
        document = make_document(**changes)
        for name in ("search", "sampler", "early_stopping", "trials"):
            document.pop(name, None)
        made = parse_spec(document)
    else:
        search = {"tau": {"float": [1, 2]}} | changes.get("search", {})
        made = spec({}, **{"controls": "default"} | changes | {"search": search})
    assert [each.responses for each in hidden_states(made)] == texts
    assert cache_dtypes(made, 0, None) == ["float32"] * len(texts)


def test_several_caches_are_all_costed() -> None:
    search = {"precision": {"choice": ["float32", "bfloat16"]}, "tau": {"float": [1, 2]}}
    both, one = plan({}, search=search, controls="none"), plan({})
    assert both.teacher.source == "cache:bfloat16+float32"
    # 55,000 positions of 64 numbers, and the output matrix, twice
    assert both.estimate.teacher_cache_bytes == 64 * (6 * 55_000 + 2 * 4 * 1000)
    assert both.estimate.teacher_cache_s is not None and one.estimate.teacher_cache_s is not None
    assert both.estimate.teacher_cache_s == pytest.approx(2 * one.estimate.teacher_cache_s)


def test_the_plan_shows_the_cache_and_costs_trials_without_the_teacher() -> None:
    cached, online = plan({}), plan({"mode": "online"})
    assert (cached.teacher.source, online.teacher.source) == ("cache:float32", "online")
    # 55,000 positions of 64 numbers, and the output matrix
    assert cached.estimate.teacher_cache_bytes == 4 * 64 * (55_000 + 1000)
    assert online.estimate.teacher_cache_bytes is None
    assert cached.estimate.teacher_cache_s is not None
    assert cached.estimate.duration_s is not None and online.estimate.duration_s is not None
    assert cached.estimate.duration_s < online.estimate.duration_s


def test_a_smaller_dtype_takes_half() -> None:
    exact, half = cache_bytes(KNOWN, ["float32"]), cache_bytes(KNOWN, ["float16"])
    assert exact is not None and half is not None
    assert exact - half == 2 * 64 * 55_000


def test_what_decides_the_source_decides_the_sweep() -> None:
    ids = {plan(cache).sweep_id for cache in ({}, {"mode": "online"}, {"dtype": "float16"})}
    assert len(ids) == 3


def test_where_the_cache_lies_does_not_decide_the_sweep_nor_fill_its_disk() -> None:
    near, far = plan({}), plan({"folder": "/elsewhere"})
    assert near.sweep_id == far.sweep_id
    needed = near.estimate.teacher_cache_bytes
    assert needed is not None and near.estimate.checkpoint_bytes is not None
    machine = Resources(num_cpus=2, disk_free=near.estimate.checkpoint_bytes + needed // 2)
    made = spec({"folder": "/elsewhere", "mode": "required"}, training={"epochs": 2})
    assert make_plan(made, KNOWN, machine, code_version="1").teacher.source == "cache:float32"
    made = spec({"mode": "required"}, training={"epochs": 2})
    with pytest.raises(PlanError, match="the disk can spare"):
        make_plan(made, KNOWN, machine, code_version="1")


@pytest.mark.parametrize(
    ("written", "root", "url"),
    [
        (None, "home/caches", None),
        ("caches", "there/caches", None),
        ("s3://bucket/caches", "home/caches", "s3://bucket/caches"),
    ],
)
def test_a_folder_is_one_of_the_specs_and_a_url_is_left_alone(
    tmp_path: Path, written: str | None, root: str, url: str | None
) -> None:
    absolute = with_absolute_paths(spec({"folder": written}), PathFinder([tmp_path / "there"]))
    assert teacher_caches_folder(absolute, tmp_path / "home") == tmp_path / root
    assert absolute.teacher_cache.url == url


def test_several_gpus_take_a_required_cache_and_as_many_gpus() -> None:
    with pytest.raises(SpecError, match=r"mode must be required, but got gpus=2 with mode=auto"):
        spec({"gpus": 2})
    made = spec({"gpus": 2, "mode": "required"}, training={"epochs": 2})
    assert made.prepare_request().teacher_gpus == 2
    with pytest.raises(PlanError, match=r"at most the 1 GPUs that are here, but got 2"):
        make_plan(made, KNOWN, Resources(num_cpus=2, num_gpus=1), code_version="1")
    large = make_plan(made, KNOWN, Resources(num_cpus=2, num_gpus=2), code_version="1")
    assert gpus_of_teacher(large) == 2
    assert gpus_of_teacher(plan({})) == 0
