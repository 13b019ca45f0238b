"""Scores the teacher and the student's start before any trial."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from trainers import numerics as numerics_of
from trainers.parts import Data, Network, SignalMaker, Task
from trainers.preparing.keys import teacher_dtype
from trainers.teachers.online import OnlineTeacher
from trainers.training.student import StudentWithLoss
from trainers.trial.budget import smallest_micro_batch
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision
from trainers.trial.metrics import OF_THE_LOSS
from trainers.trial.seen import Seen
from trainers.trial.sources import PrepareRequest, Scores, WeightsDtype
from trainers.world import World


def score(
    task: Task, request: PrepareRequest, *, teacher: Path, student: Path, data: Path
) -> dict[str, dict[str, float]]:
    """Returns validation metrics of the prepared `teacher` of a request (with its entropy at
    temperature 1 over ln V) and of `student` against it, without what is slow. On a GPU where there
    is one."""
    config = TrialConfig.model_validate({"task": task.name, **task.quick_evaluation})
    opened = task.runtime().open_data(data, trust=request.trusts("tokenizer"))
    scorer = _scorer(task, config, opened, Precision.FLOAT32)
    network = scorer.load_teacher(request, teacher)
    of_teacher = scorer.score(network, None)
    start = scorer.load(student, trust=request.trusts("student"))
    of_start = scorer.score(start, OnlineTeacher(network))
    return {"teacher": with_entropy(of_teacher, scorer.data.num_classes), "student": of_start}


def with_entropy(metrics: Mapping[str, float], num_classes: int) -> dict[str, float]:
    """Returns a teacher's own metrics with its entropy, and that over ln V, in place of the entropy
    that it has as a student."""
    found = dict(metrics)
    entropy = found.pop("student_entropy")
    return found | {"entropy": entropy, "entropy_share": entropy / math.log(num_classes)}


def score_as_trials(
    task: Task, request: PrepareRequest, *, teacher: Path, student: Path, data: Path
) -> Scores:
    """Returns what the prepared `teacher` and `student` of a request that says `scored_as` score:
    by the evaluation, and in the arithmetic, of its trials."""
    config = request.scored_as
    assert config is not None
    opened = task.runtime().open_data(data, trust=request.trusts("tokenizer"), seen=Seen.by(config))
    scorer = _scorer(task, config, opened, config.precision)
    quick = replace(scorer, config=config.model_copy(update=dict(task.quick_evaluation)))
    # A teacher that no single device holds samples no text: each token would cross them all.
    of_teacher = scorer if request.teacher_gpus == 1 else quick
    network = scorer.load_teacher(request, teacher)
    own = of_teacher.score(network, None)
    start = scorer.load(student, trust=request.trusts("student"))
    scorer.check_smallest_batch(start)
    forward_s, _ = _timed(lambda: quick.score(start, None))
    # Asking the teacher is no part of what an evaluation takes where its answers are cached.
    evaluation_s, texts = _timed(lambda: scorer.score(start, None))
    against_teacher = quick.score(start, OnlineTeacher(network))
    return Scores(
        teacher=own,
        undistilled=texts | against_teacher,
        evaluation_s=evaluation_s,
        forward_s=forward_s,
    )


def _timed(work: Callable[[], dict[str, float]]) -> tuple[float, dict[str, float]]:
    """Returns the seconds that `work` took, and what it returned."""
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def _scorer(task: Task, config: TrialConfig, data: Data, precision: Precision) -> "_Scorer":
    device = "cuda" if torch.cuda.is_available() else "cpu"
    numerics = numerics_of.resolve(device, precision, torch.get_num_threads())
    numerics_of.apply(numerics)
    return _Scorer(task, config, data, torch.device(device), numerics)


@dataclass(frozen=True)
class _Scorer:
    task: Task
    config: TrialConfig
    data: Data
    device: torch.device
    numerics: dict[str, Any]

    def load_teacher(self, request: PrepareRequest, folder: Path) -> Network:
        dtype = teacher_dtype(request, folder) or "float32"
        trust, gpus = request.trusts("teacher"), request.teacher_gpus
        return self.load(folder, trust=trust, gpus=gpus, dtype=dtype)

    def load(
        self, folder: Path, *, trust: bool, gpus: int = 1, dtype: WeightsDtype = "float32"
    ) -> Network:
        runtime = self.task.runtime()
        model = runtime.load_model(
            folder,
            self.device,
            attention=self.config.attention_implementation,
            dtype=getattr(torch, dtype),
            trust=trust,
            gpus=gpus,
        )
        runtime.check_model(model, self.data)
        return runtime.network(model, self.data.num_classes)

    def check_smallest_batch(self, student: Network) -> None:
        """Raises `ValueError` for a student that cannot train on what an epoch leaves over."""
        num_examples = self.data.splits["train"].examples_per_epoch
        smallest = smallest_micro_batch(self.config, num_examples, 1)
        self.task.runtime().check_smallest_batch(student.model, self.data, smallest)

    def score(self, network: Network, teacher: SignalMaker | None) -> dict[str, float]:
        student = StudentWithLoss.build(
            network, self.config, device=self.device, numerics=self.numerics
        )
        student.eval()  # an evaluation leaves the mode as it was, and this one is never trained
        evaluator = self.task.runtime().evaluator(
            self.config,
            self.data,
            teacher=teacher,
            world=World(device=self.device),
            numerics=self.numerics,
        )
        metrics = evaluator.evaluate(student, {}).metrics
        return {name: value for name, value in metrics.items() if name not in OF_THE_LOSS}
