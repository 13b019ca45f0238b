"""The section `text` of a sweep: searched, given, and left out where it is not used."""

from typing import Any

import pytest
from fakes import make_document, make_sweep_plan

from service.errors import SpecError
from service.spec.parse import parse_spec

TEXT = {"student_share": 0.5, "sampling_temperature": 0.9}


def test_a_sweep_without_the_section_reads_as_before_there_was_one() -> None:
    assert "text" not in parse_spec(make_document()).model_dump()
    assert parse_spec(make_document(text=TEXT)).model_dump()["text"] == TEXT


def test_what_is_given_and_what_is_searched_reach_a_trial() -> None:
    searched = {"student_share": {"choice": [0, 1]}, "tau": {"choice": [1]}}
    spec = parse_spec(make_document(text={"sampling_temperature": 0.9}, search=searched))
    config = spec.trial_config({"student_share": 1, "tau": 1})
    assert (config.student_share, config.sampling_temperature) == (1, 0.9)


@pytest.mark.parametrize("section", ["text", "search"])
def test_controls_learn_from_the_datas_text(section: str) -> None:
    share: dict[str, Any] = {"text": {"text": TEXT}, "search": {}}[section]
    searched = {"student_share": {"choice": [0.5, 1]}}
    search = {"search": {"tau": {"float": [0.5, 8]}} | (searched if section == "search" else {})}
    plan = make_sweep_plan(controls="default", **share, **search)
    assert len(plan.controls) == 4
    configs = [plan.spec.trial_config(control.values) for control in plan.controls]
    assert {config.student_share for config in configs} == {0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": {"student_share": 2}}, "text.student_share: .* 2"),
        ({"text": {"temperature": 1}}, "text.temperature"),
        (
            {"text": TEXT, "loss": {"soft_weight": 0, "hard_weight": 1}},
            "loss.soft_weight: soft_weight > 0 must hold with student_share > 0",
        ),
        (
            {"text": {"sampling_max_tokens": 300}},
            "text.sampling_max_tokens: sampling_max_tokens <= max_tokens - max_prompt_tokens",
        ),
        (
            {"search": {"student_share": {"float": [0, 1.5]}}},
            "search.student_share: .* 1.5",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_spec(make_document(**changes))
