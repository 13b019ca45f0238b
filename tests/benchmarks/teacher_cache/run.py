"""What the teacher cache saves, and that it is exact.

python tests/benchmarks/teacher_cache/run.py [step | sweep | exact | open] [--rounds 5]

step: CPU seconds of a training step, interleaved: naive online (whole logits), fused online,
cached. sweep: 16 trials with each, the cache's building included; training time alone. exact:
cached against online. open: a cache of a million positions. One CPU thread; ratios, medians over
rounds.
"""

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))
import stage as stages

from trainers import numerics
from trainers.losses import DistillationLoss
from trainers.parts import SignalMaker
from trainers.tasks import table
from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.data import TokenSplit
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.teachers import cache_build
from trainers.teachers.cache import CachePlan, CacheRequest
from trainers.teachers.cached import CachedTeacher
from trainers.teachers.online import OnlineTeacher
from trainers.training import run
from trainers.training import student as students
from trainers.training.optimizer import make_optimizer
from trainers.trial.reporting import Leave

TASK = table.task_named("causal_lm")
CPU = torch.device("cpu")
STEPS = 2
SECTIONS = ("step", "exact", "open", "sweep")


def main() -> None:
    """Runs the sections that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=16, help="of the sweep")
    parser.add_argument("--add-to", type=Path, help="a file that adds up the parts of a sweep")
    given = parser.parse_args()
    numerics.apply(stages.resolved())
    print(json.dumps(stages.resolved()))
    with tempfile.TemporaryDirectory() as folder:
        stage = stages.build(Path(folder), examples=STEPS * stages.BATCH)
        plan = planned(stage, Path(folder) / "home", "float32")
        cache_build.build(plan)
        cache_build.release()
        if "step" in given.sections:
            steps(stage, plan, given.rounds)
        if "exact" in given.sections:
            exactness(stage, plan)
        if "open" in given.sections:
            opening(Path(folder) / "large")
        if "sweep" in given.sections:
            sweep(stage, Path(folder) / "sweep", given.trials, given.add_to)


def planned(stage: stages.Stage, home: Path, dtype: str) -> CachePlan:
    """The plan of the stage's cache."""
    request = CacheRequest(
        TASK, stage.teacher, stage.data, stages.resolved(), None, "float32", dtype
    )
    return cache_build.plan_cache(request, home)


def show(what: str, measured: str, bound: str, met: bool) -> None:
    """Prints a line of the table."""
    print(f"{what:58} {measured:26} {bound:16} {'ok' if met else 'MISSED'}", flush=True)


def splits(stage: stages.Stage) -> dict[str, TokenSplit]:
    """Both splits of the stage's data."""
    return {name: TokenSplit.open(stage.data, name) for name in ("train", "validation")}


def teachers(stage: stages.Stage, plan: CachePlan) -> tuple[OnlineTeacher, CachedTeacher]:
    """The same teacher online and from its cache."""
    model = models.load(stage.teacher, attention=None, dtype=torch.float32)
    online = OnlineTeacher(LanguageModel.of(model, stages.VOCAB_SIZE))
    return online, CachedTeacher(plan.folder, splits(stage), CPU)


def step_of(
    stage: stages.Stage, teacher: SignalMaker, *, fused: bool
) -> Callable[[], dict[str, Any]]:
    """A training step that reads its batch, as a trial does; returns its loss and gradient."""
    student = stages.student(stage, fused=fused)
    optimizer = make_optimizer(student.loss.config, student)
    split, examples = TokenSplit.open(stage.data, "train"), np.arange(stages.BATCH)

    def step() -> dict[str, Any]:
        batch = split.collate(examples)
        sums = student(batch, teacher.signal(batch), step=0, num_steps=1)
        (sums.total / len(batch.labels)).backward()
        head = student.model.get_output_embeddings().weight
        result = {"loss": float(sums.total.detach()), "gradient": head.grad.clone()}
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return result

    return step


def steps(stage: stages.Stage, plan: CachePlan, rounds: int) -> None:
    """A step with each teacher."""
    online, cached = teachers(stage, plan)
    variants = {
        "naive online": step_of(stage, online, fused=False),
        "fused online": step_of(stage, online, fused=True),
        "cached": step_of(stage, cached, fused=True),
    }
    seconds = stages.interleaved(variants, rounds)
    for other, bound in (("naive online", 0.45), ("fused online", 0.70)):
        measured = stages.median_ratio(seconds, "cached", other)
        show(
            f"step: cached ÷ {other}",
            stages.ratio(seconds, "cached", other),
            f"≤ {bound}",
            measured <= bound,
        )
    middle = sorted(seconds["cached"])[len(seconds["cached"]) // 2]
    share = stages.step_flops() / middle / stages.matmul_rate()
    show(
        "step: cached, share of a plain 1024³ matmul's rate",
        f"{share:.2f}",
        "≥ 0.60 (0.70)",
        share >= 0.60,
    )


def exactness(stage: stages.Stage, plan: CachePlan) -> None:
    """Cached against online, and what smaller storage costs."""
    online, cached = teachers(stage, plan)
    batch = TokenSplit.open(stage.data, "train").collate(np.arange(stages.BATCH))
    ours, theirs = cached.signal(batch), online.signal(batch)
    same = torch.equal(ours.logits(), theirs.head.logits(ours.hidden))
    show("exact: head × cached hidden = head × that hidden", str(same), "bit-identical", same)
    one, other = (step_of(stage, t, fused=True)() for t in (cached, online))
    error = abs(one["loss"] / other["loss"] - 1)
    show("exact: loss of a step, relative", f"{error:.1e}", "≤ 1e-6", error <= 1e-6)
    gradient = float((one["gradient"] - other["gradient"]).norm() / other["gradient"].norm())
    show("exact: gradient of a step, relative", f"{gradient:.1e}", "≤ 1e-6", gradient <= 1e-6)
    half = planned(stage, plan.root, "float16")
    cache_build.build(half)
    cache_build.release()
    halved = step_of(stage, CachedTeacher(half.folder, splits(stage), CPU), fused=True)()
    gradient = float((halved["gradient"] - other["gradient"]).norm() / other["gradient"].norm())
    show("exact: float16 storage, gradient error", f"{gradient:.1e}", "≤ 5e-3", gradient <= 5e-3)
    for each, size in ((plan, 4), (half, 2)):
        rows = sum(shard.num_positions for shard in each.shards)
        files = [each.folder / f"{shard.name}.safetensors" for shard in each.shards]
        spent = sum(path.stat().st_size for path in files) / rows / each.hidden_size
        show(
            f"size: bytes per position and width, {each.request.storage}",
            f"{spent:.3f}",
            f"≤ {1.02 * size:.2f}",
            spent <= 1.02 * size,
        )


def opening(folder: Path) -> None:
    """Opens a cache of a million positions in a used process, and trains a step from it."""
    small = {"n_layer": 1, "n_embd": 64, "n_head": 2}
    stage = stages.build(folder, examples=4000, teacher=small)
    plan = planned(stage, folder / "home", "float32")
    cache_build.build(plan)
    cache_build.release()
    CachedTeacher(plan.folder, splits(stage), CPU)  # reads every byte once
    data = splits(stage)
    before = stages.resident("RssAnon")
    started = time.process_time()
    teacher = CachedTeacher(plan.folder, data, CPU)
    spent = time.process_time() - started
    rows = sum(shard.num_positions for shard in plan.shards)
    show(f"open: {rows} positions, CPU s", f"{spent:.3f}", "≤ 0.2", spent <= 0.2)
    random = np.random.Generator(np.random.PCG64(0))
    for _ in range(500):
        teacher.hidden("train", random.integers(0, 4000, stages.BATCH))
    grown = (stages.resident("RssAnon") - before) / (1 << 20)
    size = plan.bytes / (1 << 20)
    show(
        f"open: own memory grown, cache of {size:.0f} MiB", f"{grown:.1f} MiB", "≤ 10", grown <= 10
    )
    kept = run.KeptBetweenTrials()
    trial = stage.trial(steps=1, source="cache:float32", cache=plan.folder)
    trained(trial, folder, kept=kept)
    started = time.process_time()
    clock = trained(trial, folder, kept=kept)
    overhead = time.process_time() - started - clock.train - clock.evaluation
    show(
        "open: overhead of a trial in a used process, CPU s",
        f"{overhead:.2f}",
        "≤ 0.5",
        overhead <= 0.5,
    )


def sweep(stage: stages.Stage, folder: Path, trials: int, add_to: Path | None) -> None:
    """Trials with each teacher in turn; CPU seconds of training, the cache's building added once.
    `add_to` keeps what was measured, so that a long sweep can be run in parts."""
    found = Spent.read(add_to)
    started = time.process_time()
    plan = planned(stage, folder, "float32")
    cache_build.build(plan)
    cache_build.release()
    found.building = time.process_time() - started
    online = stage.trial(steps=STEPS)
    cached = stage.trial(steps=STEPS, source="cache:float32", cache=plan.folder)
    variants = {
        "naive online": functools.partial(trained, online, folder, fused=False),
        "fused online": functools.partial(trained, online, folder),
        "cached": functools.partial(trained, cached, folder),
    }
    kept = {name: run.KeptBetweenTrials() for name in variants}
    for _ in range(trials):
        for name, train in variants.items():
            done = train(kept=kept[name])
            found.seconds[name].append(done.train)
            if name == "cached":
                found.waited.append(done.waited)
        found.write(add_to)
    show_sweep(found)


def show_sweep(found: "Spent") -> None:
    """Prints the sweep's lines of the table."""
    count = len(found.waited)
    whole = found.building + sum(found.seconds["cached"])
    print(f"sweep: building took {found.building:.1f} CPU s")
    for other, bound in (("naive online", 0.45), ("fused online", 0.72)):
        measured = whole / sum(found.seconds[other])
        show(
            f"sweep of {count} trials: cached ÷ {other}",
            f"{measured:.3f}",
            f"≤ {bound}",
            measured <= bound,
        )
    share = float(np.median(found.waited))
    show("sweep: time waiting for data, of a step", f"{share:.4f}", "≤ 0.02", share <= 0.02)


@dataclass
class Spent:
    """CPU seconds of a sweep: the cache's building, each trial's training; shares of waiting."""

    building: float = 0.0
    seconds: dict[str, list[float]] = field(
        default_factory=lambda: {"naive online": [], "fused online": [], "cached": []}
    )
    waited: list[float] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path | None) -> "Spent":
        """What was measured before."""
        return cls(**json.loads(path.read_text())) if path and path.exists() else cls()

    def write(self, path: Path | None) -> None:
        """Keeps it."""
        if path:
            path.write_text(json.dumps(asdict(self)))


class Clock:
    """A reporter that adds up the CPU seconds from each step's start to its end."""

    def __init__(self) -> None:
        self.train, self.evaluation, self.waited, self._mark = 0.0, 0.0, 0.0, 0.0

    def advanced(self, step: int, num_steps: int) -> None:
        """Drops how far it is."""

    def notice(self, text: str) -> None:
        """Drops the text."""

    def reason_to_leave(self) -> Leave:
        """A step begins."""
        self._mark = time.process_time()
        return Leave.NO

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """A step has ended."""
        now = time.process_time()
        self.train += now - self._mark
        self._mark = now

    def evaluated(self, step: int, evaluation: int, metrics: Mapping[str, float]) -> None:
        """Keeps what the evaluation took, and the share of time that the trial waited for data."""
        self.evaluation += time.process_time() - self._mark
        self.waited = metrics["data_wait_share"]


def trained(
    trial: Any, folder: Path, *, fused: bool = True, kept: run.KeptBetweenTrials | None = None
) -> Clock:
    """Trains one trial and returns its times."""
    clock = Clock()
    # the module in which trials look the loss up
    plain, students.DistillationLoss = (
        students.DistillationLoss,
        functools.partial(DistillationLoss, fused=fused),
    )
    try:
        run.run_trial(trial, folder / "trial", reporter=clock, kept=kept)
    finally:
        students.DistillationLoss = plain
    return clock


if __name__ == "__main__":
    main()
