"""What trials over Fashion-MNIST take: in a slot, beside the online teacher, and 66 of them.

    python tests/benchmarks/vision/run.py [--part trial|pipeline|study] [--images FOLDER]
        [--home FOLDER] [--trials 4]

The sweeps are the preset `fashion-mnist` and its capacity-limited form. Their teacher is fitted
first, unless the home has it. Linux alone: CPU seconds are of all processes that a sweep starts.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)

from service.driver.driver import run_at  # noqa: E402  # path above
from service.driver.place import Place  # noqa: E402  # path above
from service.events import DriverEvent, SlotsUp, TrialEnded  # noqa: E402  # path above
from service.plan.plan import SweepPlan  # noqa: E402  # path above
from service.workspace import Workspace  # noqa: E402  # path above

IMAGES = ROOT.parent / "shared" / "data" / "vision" / "fashion-mnist"
# Sweeps of their own in a home that is kept: one that is finished would not run again.
RUN = os.getpid()
SMALLER = ("student.config.width=8", "data.student_examples=5000", "training.epochs=30")
BOUND_TRIAL_S, BOUND_ONLINE, BOUND_PIPELINE, BOUND_STUDY_S = 5.0, 0.8, 0.10, 240.0


@dataclass
class Watched:
    """A sweep as it was seen: when its slots were up and its trials ended, as seconds on the clock,
    and CPU seconds of all its processes until then."""

    slots_up: float = 0.0
    ends: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self, event: DriverEvent) -> None:
        """Takes an event of the driver."""
        if isinstance(event, SlotsUp):
            self.slots_up = time.monotonic()
        if isinstance(event, TrialEnded):
            assert event.state == "completed", event
            self.ends.append((time.monotonic(), cpu_seconds()))

    @property
    def cpu_s_of_a_trial(self) -> float:
        """CPU seconds of a trial after the first."""
        return (self.ends[-1][1] - self.ends[0][1]) / (len(self.ends) - 1)


@dataclass(frozen=True)
class Stage:
    """Where images and everything made of them are stored."""

    images: Path
    home: Path

    def plan(self, *overrides: str) -> SweepPlan:
        """The plan of the preset."""
        from service.actions.plan import plan_sweep

        places = [f"data.{split}={self.images}" for split in ("train", "validation")]
        return plan_sweep("fashion-mnist", Workspace(self.home), overrides=[*places, *overrides])

    def run(self, *overrides: str) -> tuple[Watched, float]:
        """Runs the sweep; what was seen, and its seconds from start to end."""
        watched, began = Watched(), time.monotonic()
        place = Place(self.home, f"sqlite:///{self.home}/mlflow.db")
        run_at(place, self.plan(*overrides), on_event=watched, stop=threading.Event())
        return watched, time.monotonic() - began

    def prepared(self) -> Any:
        """The teacher, the larger student and their data, made where they are not there yet."""
        from trainers.preparing.prepare import prepare

        return prepare(self.plan().spec.prepare_request(), self.home)


def cpu_seconds() -> float:
    """CPU seconds of this process and all that descend from it."""
    found = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found += times.user + times.system
    return found


def trial(stage: Stage, trials: int) -> bool:
    """A trial in a slot, its teacher cached and online."""
    # all of one kind: those that ask no teacher would be cheaper
    alike = ("controls=none", "sampler.kind=random", "search={tau: {float: [1, 4]}}")
    seconds: dict[str, float] = {}
    for mode in ("required", "online"):
        changed = (f"name=bench-{mode}-{RUN}", f"teacher_cache.mode={mode}", f"trials={trials}")
        watched, _ = stage.run(*alike, *changed, "resources.slots=1")
        seconds[mode] = watched.cpu_s_of_a_trial
    share = seconds["required"] / seconds["online"]
    print(f"a trial in a slot     {seconds['required']:6.2f} CPU s   bound {BOUND_TRIAL_S:g}")
    print(
        f"with online teacher   {seconds['online']:6.2f} CPU s   cached ÷ online {share:.2f}",
        end="",
    )
    print(f"   bound {BOUND_ONLINE}")
    return seconds["required"] <= BOUND_TRIAL_S and share <= BOUND_ONLINE


def pipeline(stage: Stage) -> bool:
    """What bringing the batches takes of a step, by augmentation."""
    shares = {kind: _share(stage, kind) for kind in ("none", "crop_flip")}
    for kind, share in shares.items():
        print(
            f"pipeline, {kind:10} {100 * share:6.1f} % of a step   bound {100 * BOUND_PIPELINE:g} %"
        )
    return max(shares.values()) <= BOUND_PIPELINE


def _share(stage: Stage, augmentation: str) -> float:
    """CPU seconds of the thread that brings the batches, of those of the complete trial."""
    from trainers.training.feed import Feed
    from trainers.training.run import run_trial
    from trainers.trial.reporting import SilentReporter

    brought: list[float] = []
    read = Feed.step

    def timed(feed: Feed, number: int) -> Any:
        began = time.thread_time()
        step = read(feed, number)
        brought.append(time.thread_time() - began)
        return step

    file = cached_trial(stage, augmentation)
    with tempfile.TemporaryDirectory() as folder, patch.object(Feed, "step", timed):
        began = time.process_time()
        result = run_trial(file, Path(folder), reporter=SilentReporter())
        taken = time.process_time() - began
    assert result.steps == len(brought)
    return sum(brought) / taken


def cached_trial(stage: Stage, augmentation: str) -> Any:
    """A trial of the preset with one evaluation, on views of that kind."""
    from trainers import numerics
    from trainers.preparing.prepare import prepare
    from trainers.tasks import table
    from trainers.teachers.cache import CacheRequest
    from trainers.teachers.cache_build import build, plan_cache
    from trainers.trial.fields import Precision
    from trainers.trial.trial_file import TrialFile, TrialPaths

    fitted = stage.prepared()
    models = (f"teacher.model={fitted.teacher}", f"student.model={fitted.student}")
    views = () if augmentation == "none" else (f"data.augmentation={augmentation}", "data.views=2")
    spec = stage.plan(*models, *views, "evaluation.evaluations=1").spec
    found = prepare(spec.prepare_request(), stage.home)
    file = TrialFile(
        config=spec.budget(),
        numerics=numerics.resolve("cpu", Precision.FLOAT32, 1),
        paths=TrialPaths(teacher=found.teacher, student=found.student, data=found.data),
    )
    request = CacheRequest.of_trial(file, table.task_named(file.config.task))
    cache = str(build(plan_cache(request, stage.home / "caches")))
    paths = file.paths.model_copy(update={"teacher_cache": cache})
    return file.model_copy(update={"teacher_source": "cache:float32", "paths": paths})


def study(stage: Stage) -> bool:
    """The 66 trials: 11 settings, 3 seeds, 2 students."""
    seconds, trained = [], 0.0
    for name, overrides in {"labels": (), "size": SMALLER}.items():
        watched, taken = stage.run(f"name=bench-{name}-{RUN}", "resources.slots=2", *overrides)
        assert len(watched.ends) == 33, len(watched.ends)
        seconds.append(taken)
        trained += watched.ends[-1][0] - watched.slots_up
    total = sum(seconds)
    print(f"66 trials             {total:6.0f} s, of which in slots {trained:.0f} s   ", end="")
    print(f"bound {BOUND_STUDY_S:g}")
    return total <= BOUND_STUDY_S


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("trial", "pipeline", "study"), help="default: all")
    parser.add_argument("--images", type=Path, default=IMAGES, help="where the four files are")
    parser.add_argument("--home", type=Path, help="default: one of its own, removed at the end")
    parser.add_argument("--trials", type=int, default=4, help="of each kind, in part trial")
    given = parser.parse_args()
    if not given.images.is_dir():
        print(f"skipped: {given.images} must have the four files of Fashion-MNIST (--images)")
        return
    with tempfile.TemporaryDirectory(prefix="kd-bench-") as folder:
        stage = Stage(given.images, (given.home or Path(folder)).absolute())
        stage.home.mkdir(parents=True, exist_ok=True)
        print(f"teacher: top1 {stage.prepared().teacher_metrics['top1']:.1f} %", flush=True)
        parts: dict[str, Callable[[], bool]] = {
            "trial": lambda: trial(stage, given.trials),
            "pipeline": lambda: pipeline(stage),
            "study": lambda: study(stage),
        }
        met = [part() for name, part in parts.items() if given.part in (None, name)]
    print("within the bounds" if all(met) else "OUTSIDE the bounds")


if __name__ == "__main__":
    main()
