"""Tokens per second and peak memory of a training step, beside a plain one in the same run.

python tests/benchmarks/training_step/run.py [--rounds 5]

Ours: the frozen teacher's hidden states, the student with the fused loss inside its forward, AdamW.
Plain: what transformers gives: both models' whole logits, KL over them, AdamW. CPU seconds of one
thread, interleaved; memory in a fresh process each, the peak over a step less what was there
before.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))
import stage as stages

from trainers import numerics
from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.batches import TokenBatch
from trainers.tasks.causal_lm.data import TokenSplit
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.teachers.online import OnlineTeacher
from trainers.training.optimizer import make_optimizer

MIB = 1 << 20
BOUND_TIME, BOUND_MEMORY = 0.70, 0.15


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    numerics.apply(stages.resolved())
    if given.one:
        print(json.dumps(peak_of(given.one[0], stages.Stage(Path(given.one[1])))))
        return
    with tempfile.TemporaryDirectory() as folder:
        stage = stages.build(Path(folder), examples=stages.BATCH)
        report(stage, given.rounds)


def report(stage: stages.Stage, rounds: int) -> None:
    """Measures and prints."""
    batch = first_batch(stage)
    steps = {name: make(stage, batch) for name, make in VARIANTS.items()}
    seconds = stages.interleaved(steps, rounds)
    tokens = len(batch.labels)
    peaks = {name: fresh_peak(name, stage) for name in VARIANTS}
    print(f"{tokens} positions, V={stages.VOCAB_SIZE}, {json.dumps(stages.resolved())}")
    print(f"{'step':8} {'tokens/CPU s':>14} {'CPU s':>8} {'peak MiB':>9}")
    for name in VARIANTS:
        middle = statistics.median(seconds[name])
        print(f"{name:8} {tokens / middle:14.0f} {middle:8.3f} {peaks[name]:9.0f}")
    time_ratio = stages.median_ratio(seconds, "ours", "plain")
    memory_ratio = peaks["ours"] / peaks["plain"]
    print(f"time ours ÷ plain    {stages.ratio(seconds, 'ours', 'plain')}  bound {BOUND_TIME}")
    print(f"memory ours ÷ plain  {memory_ratio:.3f}  bound {BOUND_MEMORY}")
    met = time_ratio <= BOUND_TIME and memory_ratio <= BOUND_MEMORY
    print("within the bounds" if met else "OUTSIDE the bounds")


def first_batch(stage: stages.Stage) -> TokenBatch:
    """One batch of the stage's data."""
    return TokenSplit.open(stage.data, "train").collate(np.arange(stages.BATCH))


def ours(stage: stages.Stage, batch: TokenBatch) -> Callable[[], Any]:
    """A step as a trial does it."""
    student = stages.student(stage)
    optimizer = make_optimizer(student.loss.config, student)
    model = models.load(stage.teacher, attention=None, dtype=torch.float32)
    teacher = OnlineTeacher(LanguageModel.of(model, stages.VOCAB_SIZE))

    def step() -> None:
        sums = student(batch, teacher.signal(batch), step=0, num_steps=1)
        (sums.total / len(batch.labels)).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def plain(stage: stages.Stage, batch: TokenBatch) -> Callable[[], Any]:
    """The same step over whole logits, as one writes it with transformers alone."""
    student = models.load(stage.student, attention=None, dtype=torch.float32).train()
    teacher = models.load(stage.teacher, attention=None, dtype=torch.float32)
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-4)

    def step() -> None:
        with torch.no_grad():
            target = teacher(input_ids=batch.input_ids).logits.flatten(0, 1)
        logits = student(input_ids=batch.input_ids).logits.flatten(0, 1)
        hard = torch.nn.functional.cross_entropy(logits, batch.labels)
        soft = torch.nn.functional.kl_div(
            logits.log_softmax(-1), target.log_softmax(-1), log_target=True, reduction="batchmean"
        )
        (0.1 * hard + 0.9 * soft).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


VARIANTS: dict[str, Callable[[stages.Stage, TokenBatch], Callable[[], Any]]] = {
    "plain": plain,
    "ours": ours,
}


def fresh_peak(name: str, stage: stages.Stage) -> float:
    """Peak memory of a variant's second step, in a process of its own."""
    command = [sys.executable, __file__, "--one", name, str(stage.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def peak_of(name: str, stage: stages.Stage) -> float:
    """MiB that the second step needs at its peak: the first one makes the optimiser's state."""
    step = VARIANTS[name](stage, first_batch(stage))
    step()
    Path("/proc/self/clear_refs").write_text("5")
    before = stages.resident("VmRSS")
    step()
    return (stages.resident("VmHWM") - before) / MIB


if __name__ == "__main__":
    main()
