"""Tokens a second of one GPU with a cached and with an online teacher, and what limits each.

python tests/benchmarks/teacher_cache/gpu.py [--teacher 48x1600x25] [--student 12x768x12] …

Random weights and tokens: only shapes decide what a step costs. The project's own builder makes the
cache and its own loop trains. Rates are of that loop, undisturbed; GPU time comes from a profile of
the same loop, that of a step's parts from a step with a wait after each part. Needs neither Ray nor
MLflow. On a CPU (give small shapes) it shows times alone.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))
import gpu_time
import stage as stages
from gpu_time import busy_s, kernels_of, part, profiled

from trainers import numerics
from trainers.losses import DistillationLoss, LossContext
from trainers.parts import SignalMaker
from trainers.tasks import table
from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.data import TokenSplit
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.teachers import cache_build
from trainers.teachers.cache import CachePlan, CacheRequest
from trainers.teachers.cached import CachedTeacher
from trainers.teachers.online import OnlineTeacher
from trainers.training.checkpoints import Checkpoints
from trainers.training.feed import Feed
from trainers.training.loop import Loop, train
from trainers.training.optimizer import make_optimizer
from trainers.training.student import StudentWithLoss
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision
from trainers.trial.reporting import Evaluation, SilentReporter
from trainers.world import World

TASK = table.task_named("causal_lm")
PROFILED_STEPS = 4
BUSY, WAITING = 0.85, 0.05


def main() -> None:
    """Builds models, data and cache, and shows each way of training."""
    given = arguments()
    device = torch.device(given.device, 0)  # as a trial has it, with its number
    resolved = numerics.resolve(device.type, Precision.BFLOAT16, 1)
    numerics.apply(resolved)
    print(f"{resolved['device_name']}, torch {torch.__version__}, {resolved['precision']}")
    peak = gpu_time.product_rate(device, numerics.weights_dtype(resolved))
    print(f"a plain product reaches {peak / 1e12:.3g} TFLOP/s")
    with tempfile.TemporaryDirectory() as folder:
        stage = build_stage(Path(folder), given, device)
        plan = build_cache(stage, Path(folder) / "home", resolved)
        bench = Bench(stage, given, device, resolved, peak)
        for name, teacher, fused in bench.variants(plan):
            show(bench, name, teacher, fused=fused)


def arguments() -> argparse.Namespace:
    """Shapes and sizes; models as layers x width x heads."""
    parser = argparse.ArgumentParser(description=__doc__)
    has_gpu = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if has_gpu else "cpu", choices=("cuda", "cpu"))
    parser.add_argument("--teacher", type=shape, default=shape("48x1600x25"))
    parser.add_argument("--student", type=shape, default=shape("12x768x12"))
    parser.add_argument("--examples", type=int, default=384)
    parser.add_argument("--tokens", type=int, default=512, help="learned ones of an example")
    parser.add_argument("--batch", type=int, default=16, help="examples in a step")
    parser.add_argument("--steps", type=int, default=24)
    return parser.parse_args()


def shape(text: str) -> dict[str, int]:
    """GPT-2's sizes from "48x1600x25"."""
    layers, width, heads = (int(part) for part in text.split("x"))
    return {"n_layer": layers, "n_embd": width, "n_head": heads}


def build_stage(folder: Path, given: argparse.Namespace, device: torch.device) -> stages.Stage:
    """Models and data on the disk; the teacher in the dtype that it computes in."""
    started = time.perf_counter()
    stage = stages.build(
        folder,
        examples=given.examples,
        teacher=given.teacher,
        student=given.student,
        response=given.tokens,
        made_on=device,
    )
    print(f"made models and data in {time.perf_counter() - started:.1f} s")
    return stage


def build_cache(stage: stages.Stage, home: Path, resolved: Mapping[str, Any]) -> CachePlan:
    """The cache as a sweep builds it, and what that took."""
    dtype = resolved["precision"]
    started = time.perf_counter()
    request = CacheRequest(TASK, stage.teacher, stage.data, dict(resolved), None, dtype, dtype)
    plan = cache_build.plan_cache(request, home)
    planned = time.perf_counter()
    cache_build.build(plan)
    cache_build.release()
    took = time.perf_counter() - planned
    rows = sum(shard.num_positions for shard in plan.shards)
    print(
        f"cache: hashed the teacher in {planned - started:.1f} s, built {plan.bytes / 1e6:.0f} MB "
        f"in {took:.1f} s ({rows / took:.0f} tokens/s, loading, writing and checksums included)"
    )
    return plan


@dataclass(frozen=True)
class Bench:
    """What all variants share; peak: FLOP/s of a plain product."""

    stage: stages.Stage
    given: argparse.Namespace
    device: torch.device
    numerics: dict[str, Any]
    peak: float

    def variants(self, plan: CachePlan) -> Iterator[tuple[str, SignalMaker, bool]]:
        """Name, teacher, and whether the loss is the fused one."""
        splits = {name: TokenSplit.open(self.stage.data, name) for name in ("train", "validation")}
        yield "cached", CachedTeacher(plan.folder, splits, self.device), True
        dtype = numerics.weights_dtype(self.numerics)
        model = models.load(self.stage.teacher, attention=None, dtype=dtype).to(self.device)
        online = OnlineTeacher(LanguageModel.of(model, stages.VOCAB_SIZE))
        yield "fused online", online, True
        yield "naive online", online, False

    def loop(self, teacher: SignalMaker, *, fused: bool, steps: int) -> Loop:
        """A trial of some steps with a fresh student; it ends without scores and checkpoints."""
        config = TrialConfig(steps=steps, batch_size=self.given.batch, evaluations=1)
        model = models.load(self.stage.student, attention=None, dtype=torch.float32)
        loss = DistillationLoss(config, stages.VOCAB_SIZE, fused=fused)
        network = LanguageModel.of(model.to(self.device), stages.VOCAB_SIZE)
        student = StudentWithLoss(network, loss, numerics=self.numerics).to(self.device)
        split, world = TokenSplit.open(self.stage.data, "train"), World(device=self.device)
        order = split.order(batch_size=config.batch_size, seed=0)
        return Loop(
            config=config,
            student=student,
            module=student,
            teacher=teacher,
            source=Feed(split, order, world, 1, teacher),
            num_steps=steps,
            world=world,
            reporter=Times(),
            evaluate=lambda before: Evaluation({"cross_entropy": 0.0}, []),
            checkpoints=NoCheckpoints(self.stage.folder / "unused"),
        )

    def step_flops(self, name: str) -> float:
        """Floating-point operations in a step's matrix products, attention scores apart."""
        teacher, student = self.given.teacher, self.given.student
        heads = 6 * student["n_embd"] + 2 * teacher["n_embd"]
        each = 6 * body_weights(student) + stages.VOCAB_SIZE * heads
        if name != "cached":
            each += 2 * body_weights(teacher)
        return float(each * self.given.batch * self.given.tokens)


def body_weights(sizes: Mapping[str, int]) -> int:
    """Weights of GPT-2's layers."""
    return 12 * sizes["n_layer"] * sizes["n_embd"] ** 2


@dataclass
class Times(SilentReporter):
    """When each step ended, in seconds, and the share of time that the loop waited for data."""

    ends: list[float] = field(default_factory=list)
    waited: float = 0.0

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """A step has ended, and its loss has come from the GPU."""
        self.ends.append(time.perf_counter())

    def evaluated(self, step: int, evaluation: int, metrics: Mapping[str, float]) -> None:
        """The trial is over."""
        self.waited = metrics["data_wait_share"]

    @property
    def step_s(self) -> float:
        """Median seconds of a step but the first."""
        pairs = zip(self.ends, self.ends[1:], strict=False)
        return statistics.median(later - earlier for earlier, later in pairs)


class NoCheckpoints(Checkpoints):
    """Writes nothing."""

    def write(self, step: int, state: dict[str, Any], *, score: float) -> None:
        """Drops the state."""


def show(bench: Bench, name: str, teacher: SignalMaker, *, fused: bool) -> None:
    """Prints the rate of one variant, what its GPU did meanwhile, and the parts of a step."""
    train(bench.loop(teacher, fused=fused, steps=PROFILED_STEPS))  # libraries and memory warm up
    loop = bench.loop(teacher, fused=fused, steps=bench.given.steps)
    train(loop)
    times = loop.reporter
    assert isinstance(times, Times)
    rate = bench.given.batch * bench.given.tokens / times.step_s
    speed = bench.step_flops(name) / times.step_s
    print(
        f"\n{name}: {rate:,.0f} learned tokens/s, {1e3 * times.step_s:.1f} ms a step, "
        f"{speed / 1e12:.3g} TFLOP/s = {speed / bench.peak:.2f} of a plain product's; "
        f"waiting for data {times.waited:.1%}"
    )
    show_kernels(bench, times, bench.loop(teacher, fused=fused, steps=PROFILED_STEPS))
    show_parts(bench.loop(teacher, fused=fused, steps=1), bench.device)


def show_kernels(bench: Bench, times: Times, loop: Loop) -> None:
    """Prints how busy the GPU is in a step, with what, and what therefore limits it."""
    if bench.device.type != "cuda":
        return
    with profiled(bench.device) as events:
        train(loop)
    kernels = kernels_of(events)
    busy = busy_s(kernels) / PROFILED_STEPS
    total = sum(kernel.end - kernel.start for kernel in kernels)
    shares = {
        kind: sum(k.end - k.start for k in kernels if k.kind == kind) / total
        for kind in ("products", "elementwise", "copies")
    }
    spread = ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())
    print(
        f"  GPU busy {1e3 * busy:.1f} ms of {1e3 * times.step_s:.1f} ms "
        f"({busy / times.step_s:.0%}), {len(kernels) / PROFILED_STEPS:.0f} kernels: {spread}"
    )
    print(f"  limited by {limit(busy / times.step_s, times.waited, shares)}")
    for key, spent in gpu_time.longest(kernels):
        print(f"    {1e3 * spent / PROFILED_STEPS:7.2f} ms  {key[:88]}")


def limit(busy: float, waited: float, shares: Mapping[str, float]) -> str:
    """What a step would gain most from; busy, waited: shares of its time."""
    if busy >= BUSY:
        most = max(shares, key=lambda kind: shares[kind])
        reasons = {
            "products": "compute: matrix products",
            "elementwise": "memory: elementwise kernels",
            "copies": "copies between memories",
        }
        return reasons[most]
    return "data" if waited >= WAITING else "the CPU, which starts kernels too slowly"


def show_parts(loop: Loop, device: torch.device) -> None:
    """Prints the parts of a step: time with a wait after each, and the GPU's share of it."""
    step = split_step(loop, device)
    step()
    with profiled(device) as events:
        step()
    kernels = kernels_of(events)
    for name in ("read", "copy", "teacher", "student", "loss", "backward", "clip", "optimiser"):
        start, end = gpu_time.range_of(events, name)
        inside = busy_s([kernel for kernel in kernels if start <= kernel.start < end])
        gpu = f", GPU {1e3 * inside:8.2f} ms" if device.type == "cuda" else ""
        print(f"  {name:9} {1e3 * (end - start):8.2f} ms{gpu}")


def split_step(loop: Loop, device: torch.device) -> Callable[[], None]:
    """The loop's step in parts, each of which ends before the next begins. A fused loss makes the
    gradient of its inputs in its forward pass."""
    student, optimizer = loop.student, make_optimizer(loop.config, loop.student)
    feed = loop.source
    assert isinstance(feed, Feed) and loop.teacher is not None

    def step() -> None:
        with part("read", device):
            (batch,) = feed.step(0).batches
        with part("copy", device):
            batch = batch.to(device)
            if batch.teacher_hidden is not None:
                hidden = batch.teacher_hidden.to(device, non_blocking=True)
                batch = batch.with_teacher_hidden(hidden)
        with part("teacher", device):
            signal = loop.teacher.signal(batch)
        context = LossContext(sequence_ids=batch.sequence_ids, step=0, num_steps=1)
        with numerics.autocast(student._numerics):
            with part("student", device):
                hidden = student.hidden(batch)
            with part("loss", device):
                sums = student.loss(hidden, student.head(), batch.labels, signal, context)
        with part("backward", device):
            (sums.total / len(batch.labels)).backward()
        with part("clip", device):
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        with part("optimiser", device):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


if __name__ == "__main__":
    main()
