"""The section `text` of a sweep: searched, given, and left out where it is not used."""

from typing import Any

import pytest
from fakes import make_document, make_sweep_plan

from service.errors import SpecError
from service.spec.parse import parse_spec
from trainers.trial.sources import TeacherText

TEACHER = {"responses": "teacher"}
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
    assert {config.responses for config in configs} == {"data"}


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
            {"text": TEACHER, "data": {"teacher_text": {"max_tokens": 300}}},
            "data.teacher_text.max_tokens: it must be at most .* = 256, .* but got 300",
        ),
        (
            {"text": TEACHER, "data": {"teacher_text": {"samples_per_prompt": 2}}},
            "data.teacher_text.samples_per_prompt: training.steps must be given .* got 2",
        ),
        (
            {"text": TEACHER, "data": {"teacher_text": {"temperature": -1}}},
            "data.teacher_text.temperature",
        ),
        (
            {"text": TEACHER, "teacher_cache": {"gpus": 2, "mode": "required"}},
            "teacher_cache.gpus: it must be 1 where the teacher writes text, .* but got 2",
        ),
        ({"text": {"responses": "student"}}, "text.responses: .*'student'"),
        (
            {"search": {"student_share": {"float": [0, 1.5]}}},
            "search.student_share: .* 1.5",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(changes: dict[str, Any], message: str) -> None:
    document = make_document(**changes | {"training": {"epochs": 1}})
    document["data"] = make_document()["data"] | changes.get("data", {})
    with pytest.raises(SpecError, match=message):
        parse_spec(document)


def test_the_teacher_writes_where_a_trial_learns_its_text_and_only_there() -> None:
    def asked(**changes: Any) -> TeacherText | None:
        return parse_spec(make_document(**changes)).prepare_request().teacher_text

    assert asked() is None and "teacher_text" not in parse_spec(make_document()).data.model_dump()
    assert asked(text={"responses": "data"}) is None
    assert asked(text=TEACHER) == TeacherText(temperature=1.0, top_p=1.0, seed=0)
    data = make_document()["data"] | {"teacher_text": {"temperature": 0.3}}
    searched = {"responses": {"choice": ["data", "teacher"]}, "tau": {"choice": [1, 2]}}
    assert asked(search=searched, data=data) == TeacherText(temperature=0.3)


def test_text_that_no_trial_learns_is_warned_of_and_not_written() -> None:
    # a study that confirms a search may have kept the trials on the data's text alone
    plan = make_sweep_plan(data=make_document()["data"] | {"teacher_text": {}})
    assert plan.spec.prepare_request().teacher_text is None
    assert [text for text in plan.warnings if text.startswith("data.teacher_text is given")]


def test_no_temperature_of_a_trial_is_the_teachers() -> None:
    given = {"text": TEACHER | {"sampling_temperature": 0.4}, "loss": {"tau": 3.0}}
    made = parse_spec(make_document(**given, search={"hard_weight": {"choice": [0, 1]}}))
    assert made.teacher_text is not None and made.teacher_text.temperature == 1.0
