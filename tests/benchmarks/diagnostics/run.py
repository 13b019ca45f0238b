"""What the diagnostics of a trial take of its time, and what a look costs in trained positions.

python tests/benchmarks/diagnostics/run.py [--case text|images|vocabulary]

Trials of the size of the presets `demo` and `digits`, and one over GPT-2's vocabulary, each with a
student so small that all time goes into the vocabulary, which is what looks cost most in. One
thread; CPU seconds of the process, from the first step to the last, without loading and saving.
"""

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path += [str(folder) for folder in Path(__file__).resolve().parents[1:3]]

import stage as stages
import torch
from training_support import gpt2

from trainers.preparing.prepare import prepare
from trainers.training import run as runs
from trainers.training.diagnostics import Diagnostics, Probe
from trainers.trial.config import TrialConfig
from trainers.trial.fields import DIAGNOSTICS_SHARE
from trainers.trial.reporting import DIAGNOSTICS, SilentReporter
from trainers.trial.sources import DataSource, ModelSource, PrepareRequest, TokenizerSource
from trainers.trial.trial_file import TrialFile, TrialPaths


def text(folder: Path, share: float) -> TrialFile:
    """A trial of the preset `demo`, its models not fitted."""
    lengths = {"max_tokens": 96, "max_prompt_tokens": 48}
    request = PrepareRequest(
        teacher=ModelSource(config=gpt2(3, 128)),
        student=ModelSource(config=gpt2(1, 48)),
        tokenizer=TokenizerSource.model_validate({"train": {"vocab_size": 1024}}),
        data=DataSource(
            train="builtin:docstrings",
            validation="builtin:docstrings",
            template="{instruction}\n",
            max_train_examples=6000,
            max_validation_examples=200,
        ),
        **lengths,
    )
    config = {"steps": 100, "batch_size": 16, "learning_rate": 3e-3, "evaluations": 4, **lengths}
    sampled = {"generation_prompts": 12, "max_new_tokens": 24}
    return of_request(request, folder, config | sampled | {"diagnostics_share": share})


def images(folder: Path, share: float) -> TrialFile:
    """A trial of the preset `digits`, its models not fitted."""
    convnet = {"model_type": "convnet"}
    request = PrepareRequest.model_validate(
        {
            "task": "image_classification",
            "teacher": {"config": convnet | {"architecture": "small_resnet", "width": 16}},
            "student": {"config": convnet | {"architecture": "small_cnn", "width": 4}},
            "data": {"train": "builtin:digits", "validation": "builtin:digits"},
        }
    )
    config = {"task": request.task, "epochs": 15, "batch_size": 32, "learning_rate": 1e-2}
    return of_request(request, folder, config | {"diagnostics_share": share})


def vocabulary(folder: Path, share: float) -> TrialFile:
    """64 steps over GPT-2's vocabulary."""
    small = {"n_layer": 1, "n_embd": 64, "n_head": 2}
    stage = stages.build(folder, examples=32, teacher=small, student=small)
    trial = stage.trial(steps=64)
    config = trial.config.model_copy(update={"diagnostics_share": share})
    return trial.model_copy(update={"config": config})


def of_request(request: PrepareRequest, folder: Path, config: dict[str, Any]) -> TrialFile:
    """A trial over the request, prepared in `folder`."""
    prepared = prepare(request, folder)
    return TrialFile(
        config=TrialConfig.model_validate(config),
        numerics=stages.resolved(),
        paths=TrialPaths(teacher=prepared.teacher, student=prepared.student, data=prepared.data),
    )


CASES: dict[str, Callable[[Path, float], TrialFile]] = {
    "text": text,
    "images": images,
    "vocabulary": vocabulary,
}


class TimedProbe(Probe):
    """Notes the CPU seconds of each look."""

    seconds: dict[bool, list[float]] = {}

    def look(self, step: int, num_steps: int, *, with_ladder: bool) -> dict[str, Any]:
        """Looks, on the clock."""
        began = time.process_time()
        try:
            return super().look(step, num_steps, with_ladder=with_ladder)
        finally:
            self.seconds.setdefault(with_ladder, []).append(time.process_time() - began)


def measure(trial: TrialFile, output: Path) -> dict[str, Any]:
    """Trains the trial and returns what its diagnostics say of themselves."""
    TimedProbe.seconds = {}
    runs.Probe = TimedProbe  # type: ignore[misc]
    runs.Diagnostics = functools.partial(  # type: ignore[misc,assignment]
        Diagnostics, clock=time.process_time
    )
    result = runs.run_trial(trial, output, reporter=SilentReporter())
    path = output / DIAGNOSTICS
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"looks": []}
    return found | {"train_s": result.train_s}


def report(name: str, folder: Path) -> bool:
    """Measures a case and prints its line; returns whether it keeps the bound."""
    trial = CASES[name](folder / "inputs", DIAGNOSTICS_SHARE)
    short = {"steps": 3, "epochs": None, "diagnostics_share": 1.0}
    warm = trial.model_copy(update={"config": trial.config.model_copy(update=short)})
    measure(warm, folder / "warm")  # what a process loads once
    found = measure(trial, folder / "trial")
    looks = found["looks"]
    if not looks:
        print(f"{name:11} no diagnostics: too short a trial")
        return True
    share = found["looks_s"] / found["trial_s"]
    at = " ".join(str(look["step"]) for look in looks)
    print(
        f"{name:11} {looks[0]['num_positions']:4} positions after {at:18} "
        f"{1000 * found['looks_s']:7.1f} of {1000 * found['trial_s']:8.1f} ms: {share:.2%}"
    )
    for with_ladder, seconds in TimedProbe.seconds.items():
        kind = "looks with a ladder" if with_ladder else "looks"
        print(f"{'':11} {kind}: " + " ".join(f"{1000 * one:.1f}" for one in seconds) + " ms")
    return share <= DIAGNOSTICS_SHARE


def main() -> None:
    """Prints a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, action="append")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"bound {DIAGNOSTICS_SHARE:.0%}")
    kept = []
    for name in given.case or CASES:
        with tempfile.TemporaryDirectory() as folder:
            kept.append(report(name, Path(folder)))
    print("within the bound" if all(kept) else "OUTSIDE the bound")


if __name__ == "__main__":
    main()
