"""Validation of image classifiers, the same in every trial."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from trainers.parts import SignalMaker, Student
from trainers.tasks.image_classification.data import ImageData
from trainers.tasks.image_classification.metrics import BEST_TOP1, TABLE, TOP1
from trainers.tasks.position_evaluation import PositionEvaluator
from trainers.trial.reporting import EXAMPLE_ID, Evaluation
from trainers.world import World


@dataclass(frozen=True)
class ImageEvaluator:
    """Scores students on the validation split. See `trainers.parts.Evaluator`."""

    data: ImageData
    teacher: SignalMaker | None
    world: World
    numerics: dict[str, Any]
    is_thorough: bool = False  # of a finished student, which has one epoch

    @torch.no_grad()
    def evaluate(self, student: Student, before: Mapping[str, float]) -> Evaluation:
        """Returns the student's metrics: shares of images in percent, losses in nats."""
        was_training = student.training
        student.train(False)
        split = self.data.splits["validation"]
        evaluator = PositionEvaluator(split, TABLE, self.teacher, self.world, self.numerics)
        try:
            found = evaluator.measure(student)
        finally:
            student.train(was_training)
        best = {BEST_TOP1: max(found.metrics[TOP1], before.get(BEST_TOP1, 0.0))}
        if self.is_thorough:
            best = {}
        ids = {EXAMPLE_ID: split.example_ids.tolist()}
        return Evaluation(found.metrics | best, [], ids | found.by_example)
