"""Distilling is worth something: on Fashion-MNIST, by more than chance, in seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from training_support import Recorder

from trainers import numerics
from trainers.preparing.prepare import prepare
from trainers.training.run import KeptBetweenTrials, run_trial
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision
from trainers.trial.sources import PrepareRequest
from trainers.trial.trial_file import TrialFile, TrialPaths

FASHION = Path(__file__).resolve().parents[5] / "shared/data/vision/fashion-mnist"
SEEDS = range(8)
HARD = {"hard_weight": 1.0, "soft_weight": 0.0}
SOFT = {"tau": 4.0}


@pytest.mark.slow
def test_a_student_of_few_labels_is_better_with_its_teacher(tmp_path: Path) -> None:
    """By more than the 95 % interval of the difference, paired by seed."""
    if not FASHION.is_dir():
        pytest.skip(f"{FASHION} is absent")
    network = {"model_type": "convnet"}
    request = PrepareRequest.model_validate(
        {
            "task": "image_classification",
            "teacher": {
                "config": network | {"architecture": "strided_resnet", "width": 16},
                "fit": {"epochs": 1, "batch_size": 64, "learning_rate": 3e-3},
            },
            "student": {"config": network | {"architecture": "strided_cnn", "width": 8}},
            "data": {
                "train": str(FASHION),
                "validation": str(FASHION),
                "max_train_examples": 20_000,
                "max_validation_examples": 4000,
            },
            "student_examples": 500,
        }
    )
    prepared = prepare(request, tmp_path)
    kept = KeptBetweenTrials()

    def top1(seed: int, loss: dict[str, Any]) -> float:
        values = {"task": "image_classification", "epochs": 40, "batch_size": 64, "seed": seed}
        given = {"learning_rate": 5e-3, "evaluations": 1, "student_examples": 500}
        trial = TrialFile(
            config=TrialConfig.model_validate(values | given | loss),
            numerics=numerics.resolve("cpu", Precision.FLOAT32, 1),
            paths=TrialPaths(
                teacher=prepared.teacher, student=prepared.student, data=prepared.data
            ),
        )
        return run_trial(trial, tmp_path / "out", reporter=Recorder(), kept=kept).metrics["top1"]

    gains = np.array([top1(seed, SOFT) - top1(seed, HARD) for seed in SEEDS])
    half = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    assert gains.mean() > half, gains
