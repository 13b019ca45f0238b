"""Scores the teacher and the student's start before any trial."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainers import numerics as numerics_of
from trainers.parts import Data, Network, SignalMaker, Task
from trainers.teachers.online import OnlineTeacher
from trainers.training.student import StudentWithLoss
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision
from trainers.trial.sources import PrepareRequest
from trainers.world import World

# Metrics of the trial's loss, and here is none.
OF_THE_LOSS = ("teacher_entropy_mean", "teacher_entropy_std")


def score(
    task: Task, request: PrepareRequest, *, teacher: Path, student: Path, data: Path
) -> dict[str, dict[str, float]]:
    """Returns validation metrics of the prepared `teacher` of a request (with its entropy at
    temperature 1 over ln V) and of `student` against it, without what is slow. On a GPU where there
    is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    numerics = numerics_of.resolve(device, Precision.FLOAT32, torch.get_num_threads())
    numerics_of.apply(numerics)
    scorer = _Scorer(task, task.runtime().open_data(data), torch.device(device), numerics)
    teacher_network = scorer.load(
        teacher, trust=request.trusts("teacher"), gpus=request.teacher_gpus
    )
    maker = OnlineTeacher(teacher_network)
    of_teacher = scorer.score(teacher_network, None)
    entropy = of_teacher.pop("student_entropy")
    share = entropy / math.log(scorer.data.num_classes)
    of_teacher |= {"entropy": entropy, "entropy_share": share}
    start = scorer.load(student, trust=request.trusts("student"))
    return {"teacher": of_teacher, "student": scorer.score(start, maker)}


@dataclass(frozen=True)
class _Scorer:
    task: Task
    data: Data
    device: torch.device
    numerics: dict[str, Any]

    def load(self, folder: Path, *, trust: bool, gpus: int = 1) -> Network:
        runtime = self.task.runtime()
        model = runtime.load_model(
            folder, self.device, attention=None, dtype=torch.float32, trust=trust, gpus=gpus
        )
        runtime.check_model(model, self.data)
        return runtime.network(model, self.data.num_classes)

    def score(self, network: Network, teacher: SignalMaker | None) -> dict[str, float]:
        config = TrialConfig.model_validate({"task": self.task.name, **self.task.quick_evaluation})
        student = StudentWithLoss.build(network, config, device=self.device, numerics=self.numerics)
        student.eval()  # an evaluation leaves the mode as it was, and this one is never trained
        evaluator = self.task.runtime().evaluator(
            config,
            self.data,
            teacher=teacher,
            world=World(device=self.device),
            numerics=self.numerics,
        )
        metrics = evaluator.evaluate(student, {}).metrics
        return {name: value for name, value in metrics.items() if name not in OF_THE_LOSS}
