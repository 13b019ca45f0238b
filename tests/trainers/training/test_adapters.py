"""Trials that train an adapter: what changes, what is kept, and that a slot leaves no trace."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_support import logits, open_base
from peft import PeftModel, get_peft_model_state_dict
from training_support import Recorder, trial

from trainers.files import fingerprints
from trainers.students import folders
from trainers.tasks.causal_lm import models
from trainers.training.run import KeptBetweenTrials, run_trial
from trainers.trial.reporting import Leave, Outcome, SilentReporter, TrialResult
from trainers.trial.sources import Prepared
from trainers.trial.trial_file import TrialFile

LORA: dict[str, Any] = {"adapter_kind": "lora", "adapter_rank": 4, "learning_rate": 1e-2}
# An evaluation takes longer than the training that it measures.
QUICK = {"evaluations": 1, "generation_prompts": 0, "diagnostics_share": 0.0}


def with_lora(prepared: Prepared, **config: Any) -> TrialFile:
    return trial(prepared, **(LORA | QUICK | config))


def run(
    file: TrialFile, output: Path, kept: KeptBetweenTrials | None = None, **options: Any
) -> TrialResult:
    return run_trial(file, output, **({"reporter": SilentReporter(), "kept": kept} | options))


@pytest.fixture(scope="module")
def plain(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> TrialResult:
    return run(with_lora(prepared, steps=12), tmp_path_factory.mktemp("plain"))


def test_a_trained_adapter_is_a_folder_that_peft_opens_beside_the_start(
    plain: TrialResult, prepared: Prepared
) -> None:
    assert plain.outcome == Outcome.COMPLETED and plain.student is not None
    before = prepared.student_metrics["kl_teacher_student"]
    assert plain.metrics["kl_teacher_student"] < before
    names = {path.name for path in plain.student.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
    assert not {"config.json", "model.safetensors"} & names
    start = Path(prepared.student)
    opened = PeftModel.from_pretrained(open_base(start), plain.student).eval()
    saved = get_peft_model_state_dict(opened).items()
    inner = {name.removeprefix("base_model.model."): value for name, value in saved}
    assert fingerprints.of_weights(inner) == plain.weights_sha256
    ours = models.load(plain.student, attention=None, dtype=torch.float32)
    torch.testing.assert_close(logits(ours), logits(opened))  # with another GELU
    assert not torch.equal(logits(ours), logits(open_base(start)))


def test_a_used_slot_gives_the_same_bits_and_copies_no_frozen_weight(
    plain: TrialResult, prepared: Prepared, tmp_path: Path
) -> None:
    kept = KeptBetweenTrials()
    other = with_lora(prepared, adapter_rank=2, adapter_dropout=0.5, seed=3)
    assert run(other, tmp_path / "other", kept).weights_sha256 != plain.weights_sha256
    start = kept.kept["student"][1]
    again = run(with_lora(prepared, steps=12), tmp_path / "again", kept)
    assert again.weights_sha256 == plain.weights_sha256
    assert again.metrics == plain.metrics
    assert kept.kept["student"][1] is start
    recorded = open_base(Path(prepared.student)).state_dict()
    assert all(torch.equal(value, recorded[name]) for name, value in start.state_dict().items())


def test_a_resumed_trial_gives_the_same_bits_from_a_checkpoint_of_the_adapter_alone(
    plain: TrialResult, prepared: Prepared, tmp_path: Path
) -> None:
    file = with_lora(prepared, steps=12)
    stopped = run(file, tmp_path, reporter=Recorder(stop_after=5, reason=Leave.NODE_GOES))
    assert stopped.outcome.is_resumable
    (state,) = (tmp_path / "checkpoints").glob("*/state.pt")
    saved = torch.load(state, weights_only=True)["student"]
    assert saved and all("lora_" in name for name in saved)
    assert run(file, tmp_path).weights_sha256 == plain.weights_sha256


def test_two_workers_train_to_the_adapter_of_one(
    plain: TrialResult, prepared: Prepared, tmp_path: Path
) -> None:
    pair = with_lora(prepared, steps=12).model_copy(update={"world_size": 2})
    pair.write(tmp_path / "trial.json")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    arguments = (str(tmp_path / "trial.json"), "--output", str(tmp_path / "out"), "--json")
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "trainers", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])["metrics"]
    for name, value in plain.metrics.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("changed", [{"gradient_checkpointing": True}, {"precision": "bfloat16"}])
def test_it_trains_with_checkpointing_and_beside_bfloat16(
    plain: TrialResult, prepared: Prepared, tmp_path: Path, changed: dict[str, Any]
) -> None:
    found = run(with_lora(prepared, steps=12, **changed), tmp_path)
    assert found.metrics["kl_teacher_student"] == pytest.approx(
        plain.metrics["kl_teacher_student"], rel=0.02
    )


def test_targets_that_are_not_there_are_refused(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^student.adapter.targets: .*'q_proj' matches none"):
        run(with_lora(prepared, adapter_targets=("q_proj",)), tmp_path)


def test_a_start_that_is_an_adapter_is_refused(
    plain: TrialResult, prepared: Prepared, tmp_path: Path
) -> None:
    file = with_lora(prepared)
    paths = file.paths.model_copy(update={"student": str(plain.student)})
    with pytest.raises(ValueError, match=r"^paths.student: it must be a whole model, but .* is an"):
        run(file.model_copy(update={"paths": paths}), tmp_path)


def test_a_student_says_beside_which_model_it_was_trained(
    plain: TrialResult, prepared: Prepared, tmp_path: Path
) -> None:
    assert plain.student is not None
    base, own = Path(prepared.student), prepared.fingerprints["student"]
    folders.check_base(plain.student, base, "student.model")
    assert folders.architecture_of(plain.student) == "GPT2LMHeadModel"
    with pytest.raises(ValueError, match=rf"^student.model: an .*\({own[:12]}…\), but got \w+… in"):
        folders.check_base(plain.student, Path(prepared.teacher), "student.model")


def test_a_trial_without_an_adapter_never_loads_peft(prepared: Prepared, tmp_path: Path) -> None:
    trial(prepared, **QUICK, steps=1).write(tmp_path / "trial.json")
    code = (
        "import sys, trainers.__main__ as alone\n"
        "assert alone.main() == 0\n"
        "assert 'torch' in sys.modules and 'peft' not in sys.modules"
    )
    arguments = [str(tmp_path / "trial.json"), "--output", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
