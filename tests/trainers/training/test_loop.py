"""Steps, schedules, and the one rule that matters: how a batch is cut up does not change its
gradient."""

import math
from pathlib import Path
from typing import Any

import pytest
from training_support import Recorder, trial

from trainers.training.run import run_trial
from trainers.trial import diagnosis
from trainers.trial.budget import evaluation_steps, num_steps_of
from trainers.trial.config import TrialConfig
from trainers.trial.reporting import Leave
from trainers.trial.sources import Prepared


def config(**changed: Any) -> TrialConfig:
    return TrialConfig.model_validate({"steps": 100, "learning_rate": 1.0, **changed})


@pytest.mark.parametrize(
    ("budget", "examples", "steps"),
    [
        ({"steps": 7}, 100, 7),
        ({"epochs": 1, "batch_size": 32}, 100, 4),
        ({"epochs": 3, "batch_size": 32}, 100, 12),
        ({"epochs": 0.5, "batch_size": 10}, 100, 5),
        ({"epochs": 0.01, "batch_size": 10}, 100, 1),
        ({"epochs": 3, "batch_size": 32, "student_examples": 40}, 100, 6),
        ({"epochs": 3, "batch_size": 32, "student_examples": 40}, 40, 6),
        ({"steps": 7, "student_examples": 40}, 100, 7),
    ],
)
def test_the_budget_in_steps(budget: dict[str, Any], examples: int, steps: int) -> None:
    assert num_steps_of(TrialConfig.model_validate(budget), examples) == steps


@pytest.mark.parametrize(
    ("num_steps", "evaluations", "expected"),
    [
        (100, 4, [25, 50, 75, 100]),
        (10, 3, [3, 7, 10]),
        (2, 5, [1, 2]),
        (1, 1, [1]),
        (3, 10**9, [1, 2, 3]),
    ],
)
def test_evaluations_are_spread_and_the_last_is_at_the_end(
    num_steps: int, evaluations: int, expected: list[int]
) -> None:
    assert evaluation_steps(num_steps, evaluations) == expected


def first_gradient_norm(prepared: Prepared, output: Path, **changed: Any) -> dict[str, float]:
    recorder = Recorder()
    run_trial(trial(prepared, steps=1, **changed), output, reporter=recorder)
    return recorder.steps[1]


@pytest.mark.parametrize("accumulation", [2, 3, 8, 11])
def test_micro_batches_give_the_gradient_of_the_whole_batch(
    prepared: Prepared, tmp_path: Path, accumulation: int
) -> None:
    # batches of 8: with 11 parts some micro-batches are empty
    small = {"generation_prompts": 0, "clip_norm": 1e9}
    whole = first_gradient_norm(prepared, tmp_path / "whole", **small)
    parts = first_gradient_norm(
        prepared, tmp_path / "parts", gradient_accumulation=accumulation, **small
    )
    for name, value in whole.items():
        assert parts[name] == pytest.approx(value, rel=1e-5), name


def test_the_logged_loss_is_the_weighted_sum_of_its_parts(
    prepared: Prepared, tmp_path: Path
) -> None:
    recorder = Recorder()
    file = trial(prepared, tau=2.0, hard_weight=0.3, soft_weight=0.6)
    run_trial(file, tmp_path, reporter=recorder)
    assert list(recorder.steps) == [1, 2, 3, 4, 5, 6]
    for step in recorder.steps.values():
        expected = 0.3 * step["hard_loss"] + 0.6 * step["soft_loss"]
        assert step["loss"] == pytest.approx(expected, rel=1e-5)
    assert recorder.steps[1]["hard_loss"] == pytest.approx(math.log(300), rel=0.05)
    assert recorder.steps[1]["learning_rate"] == pytest.approx(3e-3)


def test_clipping_bounds_the_update_and_not_the_logged_norm(
    prepared: Prepared, tmp_path: Path
) -> None:
    sgd: dict[str, Any] = {
        "optimizer": "sgd",
        "steps": 1,
        "weight_decay": 0,
        "generation_prompts": 0,
        "schedule": "constant",
        "learning_rate": 1.0,
    }
    from safetensors.torch import load_file

    recorder = Recorder()
    limit = 1e-3
    file = trial(prepared, clip_norm=limit, **sgd)
    result = run_trial(file, tmp_path, reporter=recorder)
    assert recorder.steps[1]["gradient_norm"] > 10 * limit
    assert result.student is not None
    before = load_file(Path(prepared.student) / "model.safetensors")
    after = load_file(result.student / "model.safetensors")
    moved = sum((after[name] - before[name]).square().sum() for name in before) ** 0.5
    assert float(moved) == pytest.approx(limit, rel=1e-3)


def test_speed_is_reported_and_no_part_of_the_result(prepared: Prepared, tmp_path: Path) -> None:
    recorder = Recorder()
    result = run_trial(trial(prepared), tmp_path, reporter=recorder)
    assert recorder.evaluations[2]["tokens_per_s"] > 0
    assert "tokens_per_s" not in result.metrics
    assert result.train_s > 0


@pytest.mark.parametrize(
    "change",
    [
        {"gradient_checkpointing": True},
        {"attention_implementation": "eager"},
        {"precision": "bfloat16"},
        {"schedule": "linear", "warmup": 0.5},
        {"optimizer": "sgd"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_ways_to_train_still_learn(
    prepared: Prepared, tmp_path: Path, change: dict[str, Any]
) -> None:
    file = trial(prepared, generation_prompts=0, steps=10, **change)
    result = run_trial(file, tmp_path, reporter=Recorder())
    assert result.metrics["cross_entropy"] < prepared.student_metrics["cross_entropy"]


def test_gradient_checkpointing_changes_no_gradient(prepared: Prepared, tmp_path: Path) -> None:
    plain = first_gradient_norm(prepared, tmp_path / "a", generation_prompts=0)
    saved = first_gradient_norm(
        prepared, tmp_path / "b", generation_prompts=0, gradient_checkpointing=True
    )
    assert saved == pytest.approx(plain, rel=1e-6)


OWN = """
def forward(*, student_logits, teacher_logits):
    student, teacher = student_logits.log_softmax(-1), teacher_logits.detach().log_softmax(-1)
    return (teacher.exp() * (teacher - student)).sum(-1)
"""


def test_a_divergence_of_ones_own_trains_as_the_shipped_one_does(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_losses_of_a_trial.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    own, shipped = (
        first_gradient_norm(prepared, tmp_path / number, divergence=name, tau=2.0)
        for number, name in (("1", "own_losses_of_a_trial:forward"), ("2", "forward_kl"))
    )
    other = first_gradient_norm(prepared, tmp_path / "3", divergence="reverse_kl", tau=2.0)
    for name, value in shipped.items():
        assert own[name] == pytest.approx(value, rel=1e-5), name
    assert own != pytest.approx(other, rel=1e-3)


def drifted(notices: list[str]) -> list[str]:
    return [text for text in notices if "times as large as the teacher's" in text]


def test_a_logit_scale_outside_its_range_is_told_once_a_trial(
    prepared: Prepared, tmp_path: Path
) -> None:
    recorder = Recorder(stop_after=4, reason=Leave.SWEEP_STOPPED)
    file = trial(prepared, steps=8, evaluations=4, generation_prompts=0, learning_rate=1e-6)
    run_trial(file, tmp_path, reporter=recorder)
    ratios = [metrics["logit_scale_ratio"] for metrics in recorder.evaluations.values()]
    assert len(ratios) == 2 and max(ratios) < 0.5, "an untrained student's logits are small"
    (notice,) = drifted(recorder.notices)
    assert f"{ratios[0]:.2g} times" in notice and "evaluation 1" in notice
    resumed = Recorder()
    run_trial(file, tmp_path, reporter=resumed)
    assert list(resumed.evaluations) == [3, 4]
    assert drifted(resumed.notices) == []


def test_a_logit_scale_inside_its_range_is_not_told(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "LOGIT_SCALE_RANGE", (0.0, 10.0))
    recorder = Recorder()
    run_trial(trial(prepared, generation_prompts=0), tmp_path, reporter=recorder)
    assert recorder.evaluations[1]["logit_scale_ratio"] > 0
    assert recorder.notices == []
