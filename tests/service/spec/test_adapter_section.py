"""`student.adapter` in a document, and the search for an adapter's size."""

from typing import Any

import pytest

from service.errors import SpecError
from service.plan.estimates import InputFacts
from service.plan.plan import make_plan
from service.plan.resources import Resources
from service.spec.document import SweepSpec
from service.spec.parse import parse_spec

TAU = {"tau": {"float": [1, 4]}}


def document(student: dict[str, Any] | None = None, **search: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "teacher": {"model": "gpt2-xl"},
        "student": {"model": "gpt2", **(student or {})},
        "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
        "search": {**TAU, **search},
    }


def test_each_trial_has_the_adapter_of_the_section_and_what_is_searched() -> None:
    section = {"adapter": {"kind": "lora", "alpha": 8, "targets": ["c_attn"]}}
    spec = parse_spec(document(section, adapter_rank={"choice": [4, 8]}))
    config = spec.trial_config({"tau": 2.0, "adapter_rank": 4})
    assert (config.adapter_rank, config.adapter_alpha, config.adapter_dropout) == (4, 8.0, 0.0)
    assert config.adapter_targets == ("c_attn",)
    adapter = spec.prepare_request().adapter
    assert adapter is not None and adapter.targets == ("c_attn",)
    again = SweepSpec.model_validate(spec.model_dump(mode="json"))
    assert again.student == spec.student
    parse_spec(spec.model_dump(mode="json"))  # what is searched is not given


def test_a_sweep_without_one_has_none_in_its_document() -> None:
    spec = parse_spec(document())
    assert "adapter" not in spec.model_dump(mode="json")["student"]
    assert spec.prepare_request().adapter is None


def test_whether_there_is_an_adapter_can_be_searched() -> None:
    ranks = {"choice": [4, 8], "when": {"adapter_kind": "lora"}}
    spec = parse_spec(document(adapter_kind={"choice": ["none", "lora"]}, adapter_rank=ranks))
    assert spec.trial_config({"adapter_kind": "none"}).adapter_rank is None
    adapter = spec.prepare_request().adapter
    assert adapter is not None and adapter.rank in (4, 8)


def test_adapters_are_among_what_the_cells_of_a_study_share() -> None:
    study = document({"adapter": {"rank": 4}}) | {"kind": "study", "cells": [{"tau": [1, 2]}]}
    del study["search"]
    plan = make_plan(parse_spec(study), InputFacts(), Resources(num_cpus=2), code_version="1")
    assert plan.study is not None
    held = plan.study.held_fixed
    assert (held["adapter_kind"], held["adapter_rank"]) == ("lora", 4)


@pytest.mark.parametrize(
    ("student", "search", "problem"),
    [
        ({"adapter": {"rank": 0}}, {}, r"student.adapter.rank: value >= 1 must hold, but got 0"),
        (
            {"adapter": {"alpha": -2}},
            {},
            r"student.adapter.alpha: value > 0.0 must hold, but got -2",
        ),
        ({"adapter": {"ranc": 2}}, {}, r"student.adapter.ranc: .*Did you mean 'rank'"),
        ({"adapter": {"kind": "dora"}}, {}, r"student.adapter.kind: must be .*'lora'.* got 'dora'"),
        (
            {"adapter": {"rank": 4}},
            {"adapter_rank": {"choice": [4, 8]}},
            r"search.adapter_rank: a field is either searched or given, but got it in both",
        ),
        ({}, {"adapter_rank": {"choice": [4, 8]}}, r"adapter_rank belongs to adapter_kind 'lora'"),
        (
            {},
            {"adapter_kind": {"choice": ["none", "lora"]}, "adapter_rank": {"choice": [4]}},
            r"Or write adapter_rank: \{…, when: \{adapter_kind: lora\}\}",
        ),
        (
            {"adapter": {}},
            {"adapter_targets": {"choice": ["c_attn"]}},
            "search.adapter_targets: .*an adapter is beside the same layers in each",
        ),
    ],
)
def test_what_makes_no_adapter_is_refused_with_its_place(
    student: dict[str, Any], search: dict[str, Any], problem: str
) -> None:
    with pytest.raises(SpecError, match=problem):
        parse_spec(document(student, **search))


def test_a_teacher_trains_an_adapter_in_its_fit_alone() -> None:
    wrong = document() | {"teacher": {"model": "gpt2-xl", "adapter": {"rank": 4}}}
    with pytest.raises(SpecError, match="teacher.adapter: only known fields are allowed"):
        parse_spec(wrong)
