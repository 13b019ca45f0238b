"""What a plan says of the text that students and teacher write."""

from typing import Any

import pytest
from fakes import make_document

from service.plan.estimates import Estimate, InputFacts, estimate_sweep
from service.plan.own_text import own_text, share_written
from service.plan.teacher_text import teacher_text_cost
from service.spec.document import SweepSpec
from service.spec.parse import parse_spec

KNOWN = InputFacts(
    num_train_examples=1000,
    num_train_tokens=50_000,
    num_validation_examples=40,
    vocab_size=1000,
    teacher_parameters=1_000_000,
    student_parameters=100_000,
)
MEASURED = KNOWN.model_copy(update={"evaluation_s": 7.0, "forward_s": 2.0})
DATA = {"train": "builtin:docstrings", "validation": "builtin:docstrings", "max_tokens": 64}
TEXT = {"student_share": 0.5, "sampling_max_tokens": 16}


def spec(more_data: dict[str, Any] | None = None, **changes: Any) -> SweepSpec:
    base = {
        "data": DATA | {"max_prompt_tokens": 32} | (more_data or {}),
        "training": {"steps": 100, "batch_size": 8},
        "evaluation": {"generation_prompts": 100, "max_new_tokens": 32},
    }
    return parse_spec(make_document(**base, **changes))


def test_a_sweep_whose_students_write_nothing_says_nothing() -> None:
    assert own_text(spec(), KNOWN, 0) is None
    estimate = estimate_sweep(spec(), KNOWN, trials=4, slots=1, gpus_per_worker=0)
    assert "own_text" not in estimate.model_dump()


def test_the_responses_of_a_trial_and_the_time_that_they_take() -> None:
    text = own_text(spec(text=TEXT | {"samples_per_prompt": 3}), MEASURED, 0)
    assert text is not None
    assert (text.share, text.responses, text.max_tokens) == (0.5, 0.5 * 100 * 8 * 3, 16)
    # an evaluation wrote 40 answers of 32 tokens in 5 s
    assert text.write_s == pytest.approx(1200 * 16 * 5 / (40 * 32))
    # 2 operations for each weight and position, prompts included, at 30 GFLOP/s
    assert text.ask_s == pytest.approx(1200 * (16 + 32) * 2e6 / 30e9)


def test_what_was_not_measured_is_guessed_by_the_tokens_one_after_another() -> None:
    text = own_text(spec(text=TEXT), KNOWN, 0)
    assert text is not None and text.write_s == pytest.approx(50 * 16 * 0.01)


@pytest.mark.parametrize("facts", [KNOWN, MEASURED])
def test_writing_is_part_of_a_trials_time(facts: InputFacts) -> None:
    def seconds(**changes: Any) -> float:
        made = spec(**changes)
        estimate = estimate_sweep(made, facts, trials=1, slots=1, gpus_per_worker=0)
        assert estimate.duration_s is not None
        return estimate.duration_s

    text = own_text(spec(text=TEXT), facts, 0)
    assert text is not None
    assert seconds(text=TEXT) - seconds() == pytest.approx(text.write_s)


def test_a_searched_share_counts_with_its_mean() -> None:
    searched = {"student_share": {"choice": [0, 0.5, 1]}}
    assert share_written(spec(search=searched)) == pytest.approx(0.5, abs=0.1)


def test_a_soft_prompt_takes_more_passes_of_the_teacher() -> None:
    def of(**changes: Any) -> Estimate:
        return estimate_sweep(spec(**changes), KNOWN, trials=1, slots=1, gpus_per_worker=0)

    prompted, plain = of(text={"soft_prompt_tokens": 7}), of()
    assert "soft_prompt" not in plain.model_dump()
    assert prompted.soft_prompt is not None and prompted.soft_prompt.train_s is not None
    assert (prompted.soft_prompt.tokens, prompted.soft_prompt.share) == (7, 1)
    # 800 examples of 50 tokens, prompts as many again: the teacher forwards, back and forwards as
    # it is, the student forwards, at 2 operations a weight
    expected = 40_000 * 2 * 2 * (3 * 1_000_000 + 100_000) / 30e9
    assert prompted.soft_prompt.train_s == pytest.approx(expected)
    assert prompted.duration_s is not None and plain.duration_s is not None
    assert prompted.duration_s - plain.duration_s == pytest.approx(expected)
    searched = of(search={"soft_prompt_tokens": {"choice": [0, 7, 9]}}).soft_prompt
    assert searched is not None and searched.tokens == 9 and 0 < searched.share < 1


def test_the_teachers_text_is_written_once_before_the_trials() -> None:
    asked = {"teacher_text": {"max_tokens": 16, "samples_per_prompt": 2, "temperature": 0.5}}
    made = spec(text={"responses": "teacher"}, more_data=asked)
    text = teacher_text_cost(made, KNOWN, 0)
    assert text is not None
    assert (text.responses, text.max_tokens, text.temperature) == (2000, 16, 0.5)
    # 2 operations for each weight and position, prompts included, and 64 rows beside each other
    expected = 2000 * (16 + 32) * 2e6 / 30e9 + 2000 / 64 * 16 * 0.01
    assert text.write_s == pytest.approx(expected)
    written = KNOWN.model_copy(update={"num_teacher_tokens": 20_000})
    first, later = (
        estimate_sweep(made, facts, trials=4, slots=1, gpus_per_worker=0)
        for facts in (KNOWN, written)
    )
    assert later.teacher_text is not None and later.teacher_text.write_s == 0
    # 100 steps of 8 examples of about 50 tokens, or of 10 that were counted
    assert (first.tokens_per_trial, later.tokens_per_trial) == (40_000, 8_000)
    assert first.duration_range_s is not None and later.duration_range_s is not None
    assert first.duration_range_s[1] > later.duration_range_s[1] + expected
    assert (
        "teacher_text"
        not in estimate_sweep(spec(), KNOWN, trials=4, slots=1, gpus_per_worker=0).model_dump()
    )
