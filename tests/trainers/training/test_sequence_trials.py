"""Whole trials with a sequence term: what they report and learn, and that they go on to the bit."""

import math
from pathlib import Path
from typing import Any

import pytest
from training_support import Recorder, trial

from trainers.training.run import run_trial
from trainers.trial.reporting import Leave, TrialResult
from trainers.trial.sources import Prepared

REWARD_ALONE: dict[str, Any] = {
    "hard_weight": 0,
    "soft_weight": 0,
    "sequence_term": "kl_reward",
    "sequence_weight": 0.5,
    "student_share": 1,
    "sampling_max_tokens": 6,
    "steps": 4,
    "evaluations": 2,
    "generation_prompts": 0,
}
MINILLM: dict[str, Any] = REWARD_ALONE | {
    "soft_weight": 1,
    "divergence": "reverse_kl",
    "sequence_weight": 1,
    "importance_weight": "token",
    "clip_ratio": 0.2,
    "discount": 0.95,
    "length_norm": "length",
    "whiten": True,
    "student_share": 0.7,
    "share_of": "sequences",
    "teacher_mix": 0.2,
    "refresh": 2,
}


def run(prepared: Prepared, output: Path, **config: Any) -> tuple[TrialResult, Recorder]:
    recorder = Recorder()
    result = run_trial(trial(prepared, **config), output, reporter=recorder)
    return result, recorder


def losses(recorder: Recorder, name: str) -> list[float]:
    return [step[name] for step in recorder.steps.values()]


def test_a_reward_alone_is_all_of_the_loss(prepared: Prepared, tmp_path: Path) -> None:
    result, recorder = run(prepared, tmp_path / "reward", **REWARD_ALONE)
    half = [0.5 * one for one in losses(recorder, "sequence_loss")]
    assert losses(recorder, "loss") == pytest.approx(half, rel=1e-6)
    assert all(norm > 0 for norm in losses(recorder, "gradient_norm"))
    assert result.metrics["kl_student_teacher"] > 0


def test_the_behaviour_that_is_kept_is_the_students_own_token_for_token(
    prepared: Prepared, tmp_path: Path
) -> None:
    """Without warping, q over what the token was drawn from is 1 at each of them."""
    found = [
        run(prepared, tmp_path / kind, **REWARD_ALONE | {"importance_weight": kind})
        for kind in ("none", "token", "sequence")
    ]
    first = found[0][1]
    for _, recorder in found[1:]:
        for name in ("sequence_loss", "gradient_norm"):
            assert losses(recorder, name) == pytest.approx(losses(first, name), rel=1e-4)


def test_warped_text_is_weighted(prepared: Prepared, tmp_path: Path) -> None:
    warped = REWARD_ALONE | {"sampling_temperature": 2.0, "steps": 1, "evaluations": 1}
    token, text = (
        run(prepared, tmp_path / kind, **warped, importance_weight=kind)[1]
        for kind in ("token", "sequence")
    )
    assert losses(token, "sequence_loss") != losses(text, "sequence_loss")


def test_steps_without_text_of_the_student_have_no_sequence_loss(
    prepared: Prepared, tmp_path: Path
) -> None:
    sometimes = REWARD_ALONE | {"hard_weight": 1, "student_share": 0.5, "steps": 6, "seed": 3}
    _, recorder = run(prepared, tmp_path, **sometimes)
    pairs = zip(losses(recorder, "hard_loss"), losses(recorder, "sequence_loss"), strict=True)
    kinds = {(hard > 0, sequence != 0) for hard, sequence in pairs}
    assert kinds == {(True, False), (False, True)}


class Killed(Recorder):
    """Dies after step 2, once its checkpoint is written."""

    def log(self, step: int, metrics: Any) -> None:
        if step == 3:
            raise KeyboardInterrupt("cut")
        super().log(step, metrics)

    def reason_to_leave(self) -> Leave:
        return Leave.NO


def test_minillm_trains_and_goes_on_with_the_same_bits(prepared: Prepared, tmp_path: Path) -> None:
    whole, recorder = run(prepared, tmp_path / "whole", **MINILLM)
    assert all(math.isfinite(one) for one in losses(recorder, "sequence_loss"))
    with pytest.raises(KeyboardInterrupt, match="cut"):
        run_trial(
            trial(prepared, **MINILLM), tmp_path / "cut", reporter=Killed(), checkpoint_every_s=0
        )
    resumed, after = run(prepared, tmp_path / "cut", **MINILLM)
    assert min(after.steps) == 3
    assert resumed.weights_sha256 == whole.weights_sha256
