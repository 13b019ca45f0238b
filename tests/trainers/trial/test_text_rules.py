"""Who writes a trial's text: what is refused, and that documents without it stay as they were."""

import json
from typing import Any

import pytest

from trainers.trial.budget import sampled_tokens
from trainers.trial.config import TrialConfig, fields_in


def config(**given: Any) -> TrialConfig:
    return TrialConfig.model_validate({"steps": 4, **given})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"student_share": 1.5}, "student_share\\n.*less than or equal to 1"),
        ({"student_share": -0.1}, "student_share\\n.*greater than or equal to 0"),
        ({"student_share": True}, "must be a number, but got True"),
        ({"sampling_temperature": 0}, "sampling_temperature\\n.*greater than 0"),
        ({"samples_per_prompt": 0}, "samples_per_prompt\\n.*greater than or equal to 1"),
        (
            {"sampling_max_tokens": 257},
            "sampling_max_tokens <= max_tokens - max_prompt_tokens must hold, .* got "
            "sampling_max_tokens=257, max_tokens=512, max_prompt_tokens=256",
        ),
        (
            {"buffer_size": 31},
            "buffer_size >= batch_size \\* samples_per_prompt must hold, .* got buffer_size=31, "
            "batch_size=32, samples_per_prompt=1. Use at least 32, or 0",
        ),
        ({"buffer_size": 32, "samples_per_prompt": 2}, "Use at least 64, or 0"),
        ({"sampling_top_p": 0}, "sampling_top_p\\n.*greater than 0"),
        ({"sampling_top_p": 1.1}, "sampling_top_p\\n.*less than or equal to 1"),
        ({"teacher_mix": 2}, "teacher_mix\\n.*less than or equal to 1"),
        ({"refresh": 0}, "refresh\\n.*greater than or equal to 1"),
        ({"share_schedule": "cosine"}, "share_schedule\\n.*'adaptive'"),
        (
            {"student_share": 0.5, "soft_weight": 0},
            "soft_weight > 0 must hold with student_share > 0 and .* student_share=0.5",
        ),
        (
            {"student_share": 1, "policy": "cist", "rho": 4},
            "student_share < 1 must hold under policy 'cist'",
        ),
        (
            {"student_share": 0.5, "task": "image_classification"},
            "student_share belongs to task 'causal_lm'",
        ),
        ({"soft_prompt_tokens": -1}, "soft_prompt_tokens\\n.*greater than or equal to 0"),
        ({"soft_prompt_learning_rate": 0}, "soft_prompt_learning_rate\\n.*greater than 0"),
        ({"soft_prompt_base_weight": -1}, "soft_prompt_base_weight\\n.*greater than or equal to 0"),
        ({"soft_prompt_text": " "}, "soft_prompt_text\\n.*text that is not empty"),
        (
            {"soft_prompt_tokens": 7, "soft_weight": 0},
            "soft_weight > 0 must hold with soft_prompt_tokens > 0 .* soft_prompt_tokens=7",
        ),
        (
            {"soft_prompt_tokens": 7, "task": "image_classification"},
            "soft_prompt_tokens belongs to task 'causal_lm'",
        ),
        ({"responses": "student"}, "responses\\n.*'data' or 'teacher'"),
        (
            {"responses": "teacher", "task": "image_classification"},
            "responses belongs to task 'causal_lm'",
        ),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"student_share": 1, "soft_weight": 1, "hard_weight": 0},
        {"student_share": 0.9, "policy": "cist", "rho": 4},
        {"student_share": 1, "policy": "cist", "rho": 4, "allow_free_logit_scale": True},
        {"student_share": 1, "policy": "cist", "rho": 4, "share_schedule": "linear"},
        {"student_share": 1, "policy": "cist", "rho": 4, "share_of": "pairs"},
        {"student_share": 0, "soft_weight": 0},
        {"responses": "teacher", "soft_weight": 0, "hard_weight": 1},
        {"soft_prompt_tokens": 7, "student_share": 1},
        {"soft_prompt_tokens": 7, "soft_weight": 0, "student_share": 1, "sequence_term": "k2"},
        {"buffer_size": 32},
        {"sampling_max_tokens": 256},
    ],
)
def test_what_can_be_is_taken(given: dict[str, Any]) -> None:
    written = json.loads(config(**given).model_dump_json())
    assert config(**written) == config(**given)


def test_a_trial_without_own_text_is_written_as_it_was_before_there_was_any() -> None:
    assert not config().model_dump().keys() & {*fields_in("text")}
    assert not config(student_share=0.0).model_dump().keys() & {*fields_in("text")}
    assert config(student_share=0.25).model_dump()["student_share"] == 0.25


def test_a_response_has_the_room_that_the_longest_prompt_leaves() -> None:
    assert sampled_tokens(config(max_tokens=100, max_prompt_tokens=60)) == 40
    assert sampled_tokens(config(max_tokens=100, max_prompt_tokens=60, sampling_max_tokens=7)) == 7
