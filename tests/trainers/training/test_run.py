"""One trial end to end: the same bits wherever and whenever it runs, and what is left behind."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_support import Recorder, gpt2, trial

from trainers.files import fingerprints
from trainers.files.columns import read_columns
from trainers.tasks.causal_lm import building
from trainers.tasks.causal_lm.data import TokenData, TokenSplit
from trainers.training.checkpoints import Checkpoints
from trainers.training.run import KeptBetweenTrials, check_fingerprints, run_trial
from trainers.trial.reporting import Leave, Outcome, SilentReporter, TrialResult
from trainers.trial.sources import ModelSource, Prepared
from trainers.trial.trial_file import TrialFile

METRICS = {
    "cross_entropy",
    "kl_teacher_student",
    "kl_student_teacher",
    "student_entropy",
    "top1_agreement",
    "perplexity",
    "rouge_l",
    "rouge_l_shuffled",
    "rouge_l_error",
    "exact_match",
    "distinct_1",
    "distinct_2",
    "response_length",
    "calibration_error",
    "teacher_entropy",
    "teacher_entropy_mean",
    "teacher_entropy_std",
    "logit_scale_ratio",
}


def run(trial_file: TrialFile, output: Path, kept: KeptBetweenTrials | None = None) -> TrialResult:
    return run_trial(trial_file, output, reporter=SilentReporter(), kept=kept)


@pytest.fixture(scope="module")
def plain(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> TrialResult:
    """The usual trial, in this process."""
    return run(trial(prepared, tau=2.0), tmp_path_factory.mktemp("plain"))


def alone(trial_file: TrialFile, folder: Path, *launcher: str) -> dict[str, Any]:
    """The trial through `python -m trainers` in a fresh process."""
    trial_file.write(folder / "trial.json")
    command = [sys.executable, *launcher, "-m", "trainers"]
    arguments = [str(folder / "trial.json"), "--output", str(folder / "out"), "--json"]
    done = subprocess.run(
        command + arguments, capture_output=True, text=True, timeout=300, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def test_a_trial_reports_every_metric_and_leaves_a_student_that_opens(
    plain: TrialResult, prepared: Prepared
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert plain.outcome == Outcome.COMPLETED
    assert plain.steps == 6
    assert set(plain.metrics) == METRICS
    assert plain.student is not None
    model = AutoModelForCausalLM.from_pretrained(plain.student)
    assert fingerprints.of_weights(model.state_dict()) == plain.weights_sha256
    tokenizer = AutoTokenizer.from_pretrained(plain.student)
    assert tokenizer.decode(tokenizer("The cat sleeps")["input_ids"]) == "The cat sleeps"
    samples = json.loads((plain.student.parent / "samples.json").read_text())
    assert len(samples) == 4
    assert samples[0]["references"] == ["The cat waits "]
    examples = read_columns(plain.student.parent / "examples.parquet")
    assert np.nanmean(examples["rouge_l"]) == pytest.approx(plain.metrics["rouge_l"])
    assert not (plain.student.parent / "checkpoints").exists()


def test_training_brings_the_student_closer_to_its_teacher(
    plain: TrialResult, prepared: Prepared
) -> None:
    before = prepared.student_metrics["kl_teacher_student"]
    assert plain.metrics["kl_teacher_student"] < 0.9 * before


def test_a_fresh_process_gives_the_same_bits(
    plain: TrialResult, prepared: Prepared, tmp_path: Path
) -> None:
    result = alone(trial(prepared, tau=2.0), tmp_path)
    assert result["weights_sha256"] == plain.weights_sha256
    assert result["metrics"] == plain.metrics


def test_a_used_process_gives_the_same_bits_whatever_the_trial_before_left_changed(
    plain: TrialResult, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptBetweenTrials()
    run(trial(prepared, policy="cist", seed=3), tmp_path / "other", kept)
    monkeypatch.setenv("A_TRIAL_LEFT_THIS", "1")
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_num_threads(2)
    torch.manual_seed(99)
    try:
        again = run(trial(prepared, tau=2.0), tmp_path / "again", kept)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
    assert again.weights_sha256 == plain.weights_sha256
    assert again.metrics == plain.metrics
    assert "A_TRIAL_LEFT_THIS" not in os.environ


def test_another_seed_gives_other_weights(
    plain: TrialResult, prepared: Prepared, tmp_path: Path
) -> None:
    assert run(trial(prepared, tau=2.0, seed=1), tmp_path).weights_sha256 != plain.weights_sha256


def test_evaluation_does_not_change_training(
    plain: TrialResult, prepared: Prepared, tmp_path: Path
) -> None:
    without = trial(prepared, tau=2.0, evaluations=1, generation_prompts=0)
    assert run(without, tmp_path).weights_sha256 == plain.weights_sha256


def test_a_trial_that_was_stopped_keeps_its_last_evaluation_and_its_student(
    prepared: Prepared, tmp_path: Path
) -> None:
    recorder = Recorder(stop_after=4)
    result = run_trial(trial(prepared), tmp_path, reporter=recorder)
    assert (result.outcome, result.steps) == (Outcome.STOPPED_EARLY, 4)
    assert list(recorder.evaluations) == [1]
    assert result.metrics["cross_entropy"] == recorder.evaluations[1]["cross_entropy"]
    assert result.student is not None and (result.student / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("reason", "outcome", "keeps"),
    [
        (Leave.VERDICT, Outcome.STOPPED_EARLY, False),
        (Leave.CANCELLED, Outcome.CANCELLED, False),
        (Leave.ABANDONED, Outcome.INTERRUPTED, True),
        (Leave.SWEEP_STOPPED, Outcome.INTERRUPTED, True),
        (Leave.NODE_GOES, Outcome.PREEMPTED, True),
    ],
)
def test_a_reason_to_leave_says_how_the_trial_ended_and_whether_its_checkpoint_is_kept(
    prepared: Prepared, tmp_path: Path, reason: Leave, outcome: Outcome, keeps: bool
) -> None:
    result = run_trial(trial(prepared), tmp_path, reporter=Recorder(stop_after=1, reason=reason))
    assert (result.outcome, result.steps) == (outcome, 1)
    assert any((tmp_path / "checkpoints").glob("*")) == keeps


def test_a_trial_that_diverges_ends_at_once_without_a_student(
    prepared: Prepared, tmp_path: Path
) -> None:
    # without clipping so large a rate overflows within a few steps
    wild = trial(prepared, learning_rate=1e30, clip_norm=0, optimizer="sgd", steps=50)
    result = run(wild, tmp_path)
    assert result.outcome == Outcome.DIVERGED
    assert result.steps < 50
    assert (result.student, result.weights_sha256) == (None, None)


@pytest.mark.parametrize("policy", ["fixed", "look_ahead"])
def test_a_resumed_trial_ends_with_the_bits_of_one_that_was_never_interrupted(
    prepared: Prepared, tmp_path: Path, policy: str
) -> None:
    # with dropout, so that the random state matters
    source = ModelSource(config=gpt2(1, 16, resid_pdrop=0.2))
    tokenizer = TokenData.open(Path(prepared.data)).tokenizer
    building.initialise(source, "student", tokenizer, tmp_path / "start")
    file = trial(prepared, policy=policy, tau=2.0, steps=8, evaluations=4)
    paths = file.paths.model_copy(update={"student": str(tmp_path / "start")})
    file = file.model_copy(update={"paths": paths})
    whole = run(file, tmp_path / "whole")

    class Killed(Recorder):
        def log(self, step: int, metrics: Any) -> None:
            if step == 5:
                raise KeyboardInterrupt("cut")
            super().log(step, metrics)

    with pytest.raises(KeyboardInterrupt, match="cut"):
        run_trial(file, tmp_path / "cut", reporter=Killed())
    recorder = Recorder()
    resumed = run_trial(file, tmp_path / "cut", reporter=recorder)
    assert min(recorder.steps) == 5
    assert list(recorder.evaluations) == [3, 4]
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.metrics == whole.metrics


def test_no_checkpoint_is_written_when_the_student_itself_is_saved_next(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    monkeypatch.setattr(Checkpoints, "write", lambda _, step, *__, **___: written.append(step))
    file = trial(prepared, tau=2.0, steps=6, evaluations=3)
    run_trial(file, tmp_path, reporter=Recorder(), checkpoint_every_s=1e9)
    assert written == [2, 4]


def test_two_workers_train_to_the_weights_of_one(
    plain: TrialResult, prepared: Prepared, tmp_path: Path
) -> None:
    pair = trial(prepared, tau=2.0).model_copy(update={"world_size": 2})
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    result = alone(pair, tmp_path, *launcher)
    for name, value in plain.metrics.items():
        # the sum over two workers rounds differently; nothing else may differ
        assert result["metrics"][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_the_number_of_workers_must_be_the_trials(prepared: Prepared, tmp_path: Path) -> None:
    pair = trial(prepared).model_copy(update={"world_size": 2})
    with pytest.raises(
        ValueError, match="world_size must be the number of workers, but got 2 and 1"
    ):
        run(pair, tmp_path)


def test_inputs_that_are_not_the_trials_are_named(prepared: Prepared) -> None:
    check_fingerprints(trial(prepared))
    other = trial(prepared).model_copy(
        update={"fingerprints": prepared.fingerprints | {"teacher": "0" * 64}}
    )
    with pytest.raises(
        ValueError, match="paths.teacher: it must hold what the trial was made with"
    ):
        check_fingerprints(other)


def test_data_with_one_changed_byte_are_refused(prepared: Prepared, tmp_path: Path) -> None:
    same = trial(prepared)
    data = tmp_path / "data"
    shutil.copytree(same.paths.data, data)
    other = same.model_copy(update={"paths": same.paths.model_copy(update={"data": str(data)})})
    check_fingerprints(other)
    (tokens,) = (data / "train").glob("data-*.arrow")
    content = bytearray(tokens.read_bytes())
    # a byte in the middle could be padding between columns, which nobody reads
    first = TokenSplit.open(data, "train").tokens(0).tobytes()
    content[content.index(first)] ^= 1
    tokens.write_bytes(content)
    with pytest.raises(ValueError, match="paths.data: it must hold what the trial was made with"):
        check_fingerprints(other)


def test_a_wrong_trial_file_ends_with_exit_code_2(tmp_path: Path) -> None:
    from trainers.__main__ import main

    (tmp_path / "trial.json").write_text("{}")
    assert main([str(tmp_path / "trial.json"), "--output", str(tmp_path / "out")]) == 2
