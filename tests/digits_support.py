"""Small sweeps over scikit-learn's digits: what is prepared, and trials on it."""

from pathlib import Path
from typing import Any

from training_support import Recorder

from trainers import numerics
from trainers.training.run import run_trial
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision
from trainers.trial.reporting import TrialResult
from trainers.trial.sources import Prepared, PrepareRequest
from trainers.trial.trial_file import TrialFile, TrialPaths

TASK = "image_classification"


def convnet(architecture: str, width: int, **other: Any) -> dict[str, Any]:
    """A config of this project's own networks."""
    return {"model_type": "convnet", "architecture": architecture, "width": width, **other}


def request_of(**changed: Any) -> PrepareRequest:
    """A teacher that is fitted to some of the digits, and a smaller student that is not."""
    fit = {"epochs": 4, "batch_size": 32, "learning_rate": 3e-3}
    digits = {"train": "builtin:digits", "validation": "builtin:digits"}
    values = {
        "task": TASK,
        "teacher": {"config": convnet("small_resnet", 8), "fit": fit},
        "student": {"config": convnet("small_cnn", 8)},
        "data": {**digits, "max_train_examples": 300, "max_validation_examples": 100},
    }
    return PrepareRequest.model_validate(values | changed)


def trial_of(prepared: Prepared, **config: Any) -> TrialFile:
    """A trial of four epochs that asks the teacher itself."""
    values = {
        "task": TASK,
        "epochs": 4,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "evaluations": 2,
    }
    return TrialFile(
        config=TrialConfig.model_validate(values | config),
        numerics=numerics.resolve("cpu", Precision.FLOAT32, 1),
        fingerprints=prepared.fingerprints,
        paths=TrialPaths(teacher=prepared.teacher, student=prepared.student, data=prepared.data),
    )


def run(trial: TrialFile, output: Path, **options: Any) -> tuple[TrialResult, Recorder]:
    """Trains it; `options` are the recorder's."""
    recorder = Recorder(**options)
    return run_trial(trial, output, reporter=recorder), recorder
