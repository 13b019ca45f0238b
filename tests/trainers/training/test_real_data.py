"""Real instruction data and the built-in text through preparing and training."""

import math
from pathlib import Path

import pytest
from training_support import Recorder, gpt2

from trainers.preparing.inspection import inspect
from trainers.preparing.prepare import prepare
from trainers.training.run import run_trial
from trainers.trial.config import TrialConfig
from trainers.trial.sources import (
    DataSource,
    FitConfig,
    ModelSource,
    PrepareRequest,
    TokenizerSource,
)
from trainers.trial.trial_file import TrialFile, TrialPaths


def wanted(train: str, validation: str) -> PrepareRequest:
    small = {"n_positions": 256}
    return PrepareRequest(
        teacher=ModelSource(config=gpt2(2, 48, **small), fit=FitConfig(steps=6, batch_size=8)),
        student=ModelSource(config=gpt2(1, 24, **small)),
        tokenizer=TokenizerSource.model_validate({"train": {"vocab_size": 600}}),
        data=DataSource(
            train=train,
            validation=validation,
            max_train_examples=120,
            max_validation_examples=24,
        ),
        max_tokens=256,
        max_prompt_tokens=160,
    )


@pytest.mark.parametrize("kind", ["dolly", "builtin"])
def test_a_trial_trains_on_it(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    places = ("builtin:docstrings", "builtin:docstrings")
    if kind == "dolly":
        folder: Path = request.getfixturevalue("shared_data") / "train"
        names = ("dolly_train.jsonl", "dolly_validation.jsonl")
        places = (str(folder / names[0]), str(folder / names[1]))
    asked = wanted(*places)
    estimate = inspect(asked, tmp_path)
    prepared = prepare(asked, tmp_path)
    exact = inspect(asked, tmp_path)
    assert estimate.num_train_tokens is not None and exact.num_train_tokens is not None
    # an estimate from characters, before there is a tokenizer
    assert 0.3 < estimate.num_train_tokens / exact.num_train_tokens < 3
    trial = TrialFile(
        config=TrialConfig(
            steps=6,
            batch_size=8,
            learning_rate=3e-3,
            policy="cist",
            evaluations=1,
            generation_prompts=6,
            max_new_tokens=8,
            max_tokens=256,
            max_prompt_tokens=160,
        ),
        paths=TrialPaths(teacher=prepared.teacher, student=prepared.student, data=prepared.data),
    )
    result = run_trial(trial, tmp_path / "trial", reporter=Recorder())
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert result.metrics["cross_entropy"] < prepared.student_metrics["cross_entropy"]
    assert 0.4 < result.metrics["logit_scale_ratio"] < 2.5
