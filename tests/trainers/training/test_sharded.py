"""A student that is spread over two workers learns what that of one worker learns: each divergence,
adapters, tied heads, accumulation; and another number of workers goes on with its trial.

All trials of two workers are trained by one pair of processes, the last of which is killed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from digits_support import request_of, trial_of
from safetensors.torch import load_file
from training_support import Recorder, gpt2, trial

from trainers.__main__ import main
from trainers.files import fingerprints
from trainers.preparing.prepare import prepare
from trainers.training.checkpoints import Checkpoints, Like
from trainers.training.run import run_trial
from trainers.trial.catalogue import DIVERGENCES
from trainers.trial.reporting import Leave, TrialResult
from trainers.trial.sharding import Sharding
from trainers.trial.sources import Prepared
from trainers.trial.trial_file import TrialFile

SCRIPT = Path(__file__).with_name("sharded_pair.py")
TESTS = Path(__file__).parents[2]
# The same sums in another order, in float32; the losses are averages of many terms.
ROUNDING = 1e-5
OF_TERMS = 5e-6  # a divergence is a small difference of terms of about ln V
QUICK = {"steps": 2, "evaluations": 1, "generation_prompts": 0, "diagnostics_share": 0.0}
ROWS: dict[str, dict[str, Any]] = {
    name: {
        **QUICK,
        "gradient_accumulation": 2,
        "divergence": name,
        "policy": str(min(row.policies)),
    }
    for name, row in DIVERGENCES.items()
}
# Of whole batches, which two workers cut into other ones than one worker has.
COUPLED = {name for name, row in DIVERGENCES.items() if row.couples_rows}
OF_BATCHES = [*sorted(COUPLED), "images"]  # batch norms, whose buffers are not sharded
LORA = {"adapter_kind": "lora", "adapter_rank": 4, "learning_rate": 1e-2}
OTHERS: dict[str, dict[str, Any]] = {
    # A learned temperature of a single number, which one of the workers has. By SGD: Adam's steps
    # are as large where a gradient is all rounding.
    "everything": {
        "policy": "curriculum",
        "gradient_accumulation": 2,
        "clip_norm": 0.1,
        "optimizer": "sgd",
        "diagnostics_share": 1.0,  # which few steps would not suffice for
        "steps": 12,
        "batch_size": 16,
    },
    # 8 examples in 11 micro-batches of two workers: most are empty
    "empty": {**QUICK, "gradient_accumulation": 11},
    "recomputed": {**QUICK, "gradient_checkpointing": True},
    "untied": {**QUICK, "gradient_accumulation": 2},
    "lora": {**LORA, "gradient_accumulation": 2},
    "own text": {**QUICK, "student_share": 0.8, "sampling_max_tokens": 8},
    "soft prompt": {
        **QUICK,
        "soft_prompt_tokens": 3,
        "soft_prompt_learning_rate": 0.05,
        "student_share": 0.5,
        "share_of": "sequences",
        "sampling_max_tokens": 6,
    },
}
RESUMED = {**QUICK, "steps": 6, "evaluations": 2}


@dataclass(frozen=True)
class Trained:
    """What a trial of one worker said, and left."""

    recorder: Recorder
    result: TrialResult


def of_two(file: TrialFile, sharding: Sharding = Sharding.FSDP) -> TrialFile:
    return file.model_copy(update={"world_size": 2, "sharding": sharding})


@dataclass(frozen=True)
class Trials:
    """The trials by name, in a folder for each number of workers."""

    prepared: Prepared
    images: Prepared
    untied: str
    folder: Path

    def file(self, name: str) -> TrialFile:
        if name == "images":
            return trial_of(self.images, epochs=0.3)
        config = {**ROWS, **OTHERS}.get(name, RESUMED)
        file = trial(self.prepared, **config)
        if name != "untied":
            return file
        return file.model_copy(
            update={
                "paths": file.paths.model_copy(update={"student": self.untied}),
                "fingerprints": {},
            }
        )

    def alone(self, name: str, **options: Any) -> Trained:
        recorder = Recorder(**options)
        output = self.folder / "alone" / name
        return Trained(recorder, run_trial(self.file(name), output, reporter=recorder))

    def said(self, name: str, rank: int = 0) -> dict[str, Any]:
        said = json.loads((self.folder / name / f"said-{rank}.json").read_text())
        for kind in ("steps", "evaluations", "diagnostics"):
            said[kind] = {int(number): values for number, values in said[kind].items()}
        return dict(said)


def started(folder: Path) -> list[subprocess.Popen[str]]:
    """Two workers with the jobs in a folder."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    return [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for rank in (0, 1)
    ]


@pytest.fixture(scope="module")
def trials(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    """All trials of two workers, trained; `killed` until after its fourth step."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("sharded")
    torch.manual_seed(0)
    config = GPT2Config(**gpt2(2, 16, vocab_size=300, tie_word_embeddings=False))
    GPT2LMHeadModel(config).save_pretrained(folder / "untied-start")
    images = prepare(request_of(), folder / "home")
    made = Trials(prepared, images, str(folder / "untied-start"), folder)
    made.alone("resumed", stop_after=4, reason=Leave.NODE_GOES)
    shutil.copytree(folder / "alone" / "resumed", folder / "resumed")
    files = {name: of_two(made.file(name)) for name in (*ROWS, *OTHERS, "images", "resumed")}
    files |= {f"{name} ddp": of_two(made.file(name), Sharding.DDP) for name in OF_BATCHES}
    ends = {  # in this order, and last
        "failed": {"fail_at": 5, "checkpoints": f"file://{folder}/checkpoints"},
        "killed": {"kill_at": 5},
    }
    files |= {name: of_two(made.file(name)) for name in ends}
    jobs = [
        {
            "trial": json.loads(file.model_dump_json()),
            "output": str(folder / name),
            **ends.get(name, {}),
        }
        for name, file in files.items()
    ]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    asked = {"teacher": prepared.teacher, "data": prepared.data}
    dtypes = [{**asked, "dtype": dtype} for dtype in ("float32", "bfloat16")]
    (folder / "asked.json").write_text(json.dumps(dtypes))
    pair = started(folder)
    said = [worker.communicate(timeout=900)[0] for worker in pair]
    assert (folder / "resumed" / "said-1.json").exists(), said[1]
    assert pair[0].returncode == -signal.SIGKILL, said[0]
    assert pair[1].returncode != 0, "the other worker notices, and ends"
    return made


def assert_alike(found: dict[str, Any], expected: Recorder) -> None:
    assert found["steps"].keys() == expected.steps.keys()
    for step, values in expected.steps.items():
        assert found["steps"][step] == pytest.approx(values, rel=ROUNDING, abs=OF_TERMS), step
    for number, metrics in expected.evaluations.items():
        loss = metrics["cross_entropy"]
        assert found["evaluations"][number]["cross_entropy"] == pytest.approx(loss, rel=ROUNDING)


@pytest.mark.parametrize("name", sorted(ROWS.keys() - COUPLED) + sorted(OTHERS))
def test_two_workers_learn_what_one_does(trials: Trials, name: str) -> None:
    expected = trials.alone(name)
    found = trials.said(name)
    assert_alike(found, expected.recorder)
    assert (0 in found["diagnostics"]) == (name == "everything")
    assert found["weights_sha256"] == trials.said(name, rank=1)["weights_sha256"]


@pytest.mark.parametrize("name", OF_BATCHES)
def test_what_a_whole_batch_decides_is_that_of_replicas(trials: Trials, name: str) -> None:
    replicas = trials.said(f"{name} ddp")
    found = trials.said(name)
    for step, values in replicas["steps"].items():
        assert found["steps"][step] == pytest.approx(values, rel=ROUNDING, abs=OF_TERMS)
    for number, metrics in replicas["evaluations"].items():
        loss = metrics["cross_entropy"]
        assert found["evaluations"][number]["cross_entropy"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("name", ["everything", "untied", "lora"])
def test_the_student_is_saved_whole(trials: Trials, name: str) -> None:
    names = "adapter_model" if name == "lora" else "model"
    found, alone = (
        load_file(folder / name / "student" / f"{names}.safetensors")
        for folder in (trials.folder, trials.folder / "alone")
    )
    assert found.keys() == alone.keys()
    for key, value in alone.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=2e-5)
    if name == "untied":
        sha256 = trials.said(name)["weights_sha256"]
        assert fingerprints.of_weights(found) == sha256


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_teacher_in_parts_says_what_the_whole_one_does_however_often_it_is_asked(
    trials: Trials, number: int, rank: int
) -> None:
    said = json.loads((trials.folder / f"asked-{number}-{rank}.json").read_text())
    assert said["errors"] == [0.0] * (4 - 2 * rank)
    assert said["kept"] * 2 == said["whole"]


@pytest.fixture(scope="module")
def uninterrupted(trials: Trials) -> Trained:
    return trials.alone("whole")


def test_two_workers_go_on_where_one_stopped(trials: Trials, uninterrupted: Trained) -> None:
    found = trials.said("resumed")
    assert list(found["steps"]) == [5, 6]
    for step, values in found["steps"].items():
        expected = uninterrupted.recorder.steps[step]
        assert values == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["killed", "failed"])
def test_one_worker_goes_on_where_two_ended(
    trials: Trials, uninterrupted: Trained, tmp_path: Path, name: str
) -> None:
    output, recorder = tmp_path / name, Recorder()
    shutil.copytree(trials.folder / name, output)
    url = f"file://{trials.folder}/checkpoints" if name == "failed" else None
    run_trial(trials.file(name), output, reporter=recorder, checkpoints=url)
    assert list(recorder.steps) == [4, 5, 6], "from the checkpoint of the evaluation at step 3"
    for step, values in recorder.steps.items():
        expected = uninterrupted.recorder.steps[step]
        assert values == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert not (output / "checkpoints").exists()


def test_a_worker_that_fails_leaves_the_other_none_to_wait_for(trials: Trials) -> None:
    first, second = (
        (trials.folder / "failed" / f"failed-{rank}.txt").read_text() for rank in (0, 1)
    )
    assert first == "the first worker fails"
    assert "closed" in second.lower() or "reset" in second.lower()


def test_a_damaged_or_missing_part_is_named(trials: Trials, tmp_path: Path) -> None:
    shutil.copytree(trials.folder / "killed" / "checkpoints", tmp_path / "checkpoints")
    told: list[str] = []
    kept = Checkpoints(tmp_path / "checkpoints", told.append)
    (checkpoint,) = (tmp_path / "checkpoints").iterdir()
    parts = sorted(checkpoint.glob("*.safetensors"))
    assert len(parts) == 2, "one of each worker"
    parts[0].write_bytes(parts[0].read_bytes()[:-1] + b"?")
    assert kept.read_last(torch.device("cpu")) is None
    parts[1].unlink()
    assert kept.read_last(torch.device("cpu")) is None
    assert f"{parts[0].name} does not match its checksum" in told[0]
    assert "FileNotFoundError" in told[1] or "does not match" in told[1]


def test_a_checkpoint_of_another_student_is_refused(trials: Trials) -> None:
    kept = Checkpoints(trials.folder / "killed" / "checkpoints")
    whole = kept.read_last(torch.device("cpu"))
    assert whole is not None and not whole["student"], "all weights are in parts"
    (checkpoint,) = (trials.folder / "killed" / "checkpoints").iterdir()
    weights = load_file(min(checkpoint.glob("*.safetensors")))
    names = [name.removeprefix("student.") for name in weights if name.startswith("student.")]
    like = Like({name: torch.zeros(3, 5) for name in names}, [torch.zeros(1)] * len(names), False)
    with pytest.raises(ValueError, match="must be of the student that goes on with it, but .*ize"):
        kept.read_last(torch.device("cpu"), like)


def test_one_worker_has_nothing_to_share(
    prepared: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = json.loads(trial(prepared).model_dump_json()) | {"sharding": "fsdp"}
    (tmp_path / "trial.json").write_text(json.dumps(values))
    assert main([str(tmp_path / "trial.json"), "--output", str(tmp_path / "out")]) == 2
    assert "world_size must be at least 2, but got 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
