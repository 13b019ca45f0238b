"""A trial's step by LoRA beside one that trains the whole student, and beside PEFT's own.

python tests/benchmarks/large/run.py [--rounds 5]

All three learn the same positions from the same teacher's hidden states. `whole` and `lora` are
trials' steps; `peft` is what one writes with PEFT and transformers alone: whole logits of both
models, KL over them. CPU seconds of one thread, interleaved; memory in a fresh process each: the
peak over two steps, less what a slot holds before a trial begins (the start's weights).
"""

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))
import stage as stages

from trainers import numerics
from trainers.signal import OutputHead, TeacherSignal
from trainers.students import lora
from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.batches import TokenBatch
from trainers.tasks.causal_lm.data import TokenSplit
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.training.optimizer import make_optimizer
from trainers.training.student import StudentWithLoss
from trainers.trial.adapters import Adapter
from trainers.trial.config import TrialConfig

MIB = 1 << 20
STUDENT = {"n_layer": 6, "n_embd": 512, "n_head": 8}
ADAPTER = Adapter(rank=16, alpha=64)
BOUND_TIME, BOUND_MEMORY = 0.90, 0.60
Step = Callable[[], Any]


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
    stages.STUDENT.update(STUDENT)
    with tempfile.TemporaryDirectory() as folder:
        report(stages.build(Path(folder), examples=stages.BATCH), given.rounds)


def report(stage: stages.Stage, rounds: int) -> None:
    """Measures and prints."""
    start, batch = load(stage), first_batch(stage)
    steps = {name: make(start, batch) for name, make in VARIANTS.items()}
    seconds = stages.interleaved(steps, rounds)
    peaks = {name: fresh_peak(name, stage) for name in VARIANTS}
    print(f"{len(batch.labels)} positions, V={stages.VOCAB_SIZE}, {json.dumps(stages.resolved())}")
    print(f"{'step':8} {'CPU s':>8} {'peak MiB':>9}")
    for name in VARIANTS:
        print(f"{name:8} {statistics.median(seconds[name]):8.3f} {peaks[name]:9.0f}")
    for peer in ("whole", "peft"):
        print(f"time lora ÷ {peer:6} {stages.ratio(seconds, 'lora', peer)}")
        print(f"memory lora ÷ {peer:6} {peaks['lora'] / peaks[peer]:.3f}")
    time_ratio = stages.median_ratio(seconds, "lora", "whole")
    met = time_ratio <= BOUND_TIME and peaks["lora"] / peaks["whole"] <= BOUND_MEMORY
    bounds = f"time {BOUND_TIME}, memory {BOUND_MEMORY} of the whole student's"
    print(f"{'within' if met else 'OUTSIDE'} the bounds ({bounds})")


def load(stage: stages.Stage) -> Any:
    """The start, as a slot keeps it."""
    return models.load(stage.student, attention=None, dtype=torch.float32)


def first_batch(stage: stages.Stage) -> TokenBatch:
    """One batch of the stage's data."""
    return TokenSplit.open(stage.data, "train").collate(np.arange(stages.BATCH))


def signal_of(batch: TokenBatch) -> TeacherSignal:
    """What a cache gives: hidden states of a teacher whose head is in memory."""
    generator = torch.Generator().manual_seed(0)
    width = 512
    hidden = torch.randn(len(batch.labels), width, generator=generator)
    weight = 0.02 * torch.randn(stages.VOCAB_SIZE, width, generator=generator)
    return TeacherSignal(hidden, OutputHead(weight))


def whole(start: Any, batch: TokenBatch) -> Step:
    """A trial's step over all weights."""
    return trial_step(copy.deepcopy(start), batch)


def by_lora(start: Any, batch: TokenBatch) -> Step:
    """A trial's step over an adapter."""
    return trial_step(lora.with_adapter(start, ADAPTER, seed=0), batch)


def trial_step(model: Any, batch: TokenBatch) -> Step:
    """What the loop does with a batch."""
    config = TrialConfig(tau=2.0)
    student = StudentWithLoss.build(
        LanguageModel.of(model, stages.VOCAB_SIZE),
        config,
        device=torch.device("cpu"),
        numerics=stages.resolved(),
    ).train()
    optimizer, signal = make_optimizer(config, student), signal_of(batch)

    def step() -> None:
        sums = student(batch, signal, step=0, num_steps=1)
        (sums.total / len(batch.labels)).backward()
        trained = [one for one in student.parameters() if one.grad is not None]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def by_peft(start: Any, batch: TokenBatch) -> Step:
    """The same step as one writes it with PEFT and transformers alone."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=ADAPTER.rank,
        lora_alpha=64,
        target_modules=["c_attn", "c_proj", "c_fc"],
        fan_in_fan_out=True,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = get_peft_model(copy.deepcopy(start), config).train()
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer, signal = torch.optim.AdamW(trained, lr=5e-4), signal_of(batch)

    def step() -> None:
        target = (signal.logits() / 2).log_softmax(-1)
        found = model(input_ids=batch.input_ids, use_cache=False).logits.flatten(0, 1)
        logits = found.index_select(0, batch.positions)
        hard = torch.nn.functional.cross_entropy(logits, batch.labels)
        soft = torch.nn.functional.kl_div(
            (logits / 2).log_softmax(-1), target, log_target=True, reduction="batchmean"
        )
        (0.1 * hard + 0.9 * 4 * soft).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


VARIANTS: dict[str, Callable[[Any, TokenBatch], Step]] = {
    "whole": whole,
    "lora": by_lora,
    "peft": by_peft,
}


def fresh_peak(name: str, stage: stages.Stage) -> float:
    """Peak memory of a variant, in a process of its own."""
    command = [sys.executable, __file__, "--one", name, str(stage.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def peak_of(name: str, stage: stages.Stage) -> float:
    """MiB that a trial adds at its peak to what a slot holds: the start, read once."""
    start, batch = load(stage), first_batch(stage)
    for parameter in start.parameters():
        parameter.data = parameter.data.clone()  # out of the file's pages
    import peft  # noqa: F401  # whose modules are no part of a step

    Path("/proc/self/clear_refs").write_text("5")
    before = stages.resident("VmRSS")
    step = VARIANTS[name](start, batch)
    step()
    step()
    return (stages.resident("VmHWM") - before) / MIB


if __name__ == "__main__":
    main()
