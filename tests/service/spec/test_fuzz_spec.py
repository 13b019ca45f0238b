"""Sweeps that are almost right, overrides and texts of any kind: a plan, or an error of ours."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import make_document, make_study_document
from fuzz_support import ends_well, mutated, texts
from hypothesis import given
from hypothesis import strategies as st

from service.errors import PlanError, SpecError
from service.plan.estimates import InputFacts
from service.plan.plan import SweepPlan, make_plan
from service.plan.resources import Resources
from service.plan.search_rows import search_rows
from service.spec.document import SweepSpec
from service.spec.file import load_sweep, parse_yaml, preset_names, preset_text
from service.spec.parse import parse_spec
from service.spec.paths import PathFinder, with_absolute_paths

TEXTS = [preset_text(name) for name in (*preset_names(), "_starter")]
DOCUMENTS = [parse_yaml(text, "preset") for text in TEXTS] + [
    make_document(),
    make_study_document(
        cells=[
            {"divergence": ["skew_forward_kl", "skew_reverse_kl"], "tau": 2, "alpha": [0.1, None]},
            {"policy": "cist", "rho_per_log_vocab": [0.8, 1.3]},
        ],
        tune={"learning_rate": [1e-3, 1e-2]},
        controls="default",
    ),
    make_document(
        search={
            "divergence": {"choice": ["forward_kl", "generalized_jsd"]},
            "policy": {"choice": ["fixed", "cist"]},
            "tau": {"float": [0.1, 2.0], "step": 0.1, "when": {"policy": "fixed"}},
            "rho_per_log_vocab": {"float": [0.5, 2], "when": {"policy": "cist"}},
            "beta": {"float": [0.05, 0.95], "when": {"divergence": "generalized_jsd"}},
            "steps": {"int": [1, 100], "log": True},
        },
        training={},
        sampler={"kind": "grid", "points_per_range": 3},
        early_stopping={"kind": "hyperband", "grace": 0.5},
        controls="default",
        teacher_cache={"mode": "auto", "max_gib": 3},
        time_budget_s=100,
        resources={"workers_per_trial": 2, "cpus_per_worker": 0.5},
    ),
]
FACTS = InputFacts(
    num_train_examples=100,
    num_train_tokens=5000,
    num_validation_examples=10,
    vocab_size=500,
    teacher_parameters=10**6,
    student_parameters=10**5,
    teacher_hidden_size=64,
)
MACHINE = Resources(num_cpus=64, num_gpus=8, disk_free=10**12)


def plan_of(spec: SweepSpec) -> SweepPlan:
    """The plan, read back from its own text."""
    for facts in (InputFacts(), FACTS):
        plan = make_plan(spec, facts, MACHINE, code_version="test")
        assert search_rows(plan.spec, facts.vocab_size)
        text = plan.model_dump_json()
        assert SweepPlan.model_validate_json(text).model_dump_json() == text
        json.dumps(plan.model_dump(mode="json"), allow_nan=False)
    return plan


@given(document=mutated(DOCUMENTS))
def test_a_changed_sweep_is_planned_or_refused(document: dict[str, Any]) -> None:
    spec = ends_well(lambda: parse_spec(document), SpecError)
    if spec is not None:
        finder = PathFinder([Path("/nowhere"), Path("/neither")])
        absolute = ends_well(lambda: with_absolute_paths(spec, finder), SpecError)
        if absolute is not None:
            ends_well(lambda: plan_of(absolute), PlanError)


OVERRIDES = ("trials", "search.tau", "search.tau.float", "training.steps", "data.train", "student")


@given(
    path=st.sampled_from(OVERRIDES) | texts,
    text=texts | st.sampled_from(["[", "{a: [1", "!!int x", "&a [*a]", "9" * 5000, "{float: [1]}"]),
)
def test_any_override_is_taken_or_refused(path: str, text: str) -> None:
    override = f"{path}={text}"
    ends_well(lambda: load_sweep("temperature", [override], Path("/nowhere")), SpecError)


@st.composite
def changed_texts(draw: Any) -> str:
    """A sweep's text with pieces cut out and others put in."""
    text: str = draw(st.sampled_from(TEXTS))
    pieces = [
        "\t",
        "\x00",
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "!!map ",
        "|\n",
        "'",
        '"',
        "\n",
    ]
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        piece = draw(st.sampled_from(pieces) | texts)
        text = text[:start] + piece + text[end:]
    return text


@given(text=changed_texts() | texts)
def test_any_text_is_read_or_refused(text: str) -> None:
    document = ends_well(lambda: parse_yaml(text, "sweep.yaml"), SpecError)
    if document is not None:
        ends_well(lambda: parse_spec(document), SpecError)


@given(raw=st.binary(max_size=60) | st.sampled_from(TEXTS).map(lambda text: text.encode("utf-16")))
def test_any_file_is_read_or_refused(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(raw)
    ends_well(lambda: load_sweep(str(path), [], Path("/nowhere")), SpecError)
