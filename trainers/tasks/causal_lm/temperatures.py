"""Temperatures of sampling that do not reward a sharp student for being sharp, chosen on the
validation split."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from trainers.parts import Student
from trainers.tasks.position_evaluation import PositionEvaluator
from trainers.tasks.position_metrics import OF_THE_TEACHER, PositionMetric
from trainers.tasks.positions import entropy

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.tasks.positions import Positions

GRID = np.geomspace(0.25, 4.0, 25)  # where the student's entropy is measured
CANDIDATES = (0.25, 0.5, 0.75, 1.0, 1.25)  # of which the best scores best on validation prompts
_TEACHER = OF_THE_TEACHER[0]


def entropy_matched(positions: PositionEvaluator, student: Student) -> float | None:
    """Returns the temperature in the range of `GRID` at which the student's mean entropy is the
    teacher's at 1; None without a teacher. `positions`: of the validation split."""
    if positions.teacher is None:
        return None
    metrics = [_TEACHER, *(_entropy_at(float(one)) for one in GRID)]
    asked = PositionEvaluator(
        positions.split, metrics, positions.teacher, positions.world, positions.numerics
    )
    found = asked.measure(student).metrics
    entropies = [found[str(float(one))] for one in GRID]  # they rise with the temperature
    return float(np.exp(np.interp(found[_TEACHER.name], entropies, np.log(GRID))))


def best(score: Callable[[float], float]) -> float:
    """Returns the temperature of `CANDIDATES` with the largest score."""
    return max(CANDIDATES, key=score)


def _entropy_at(temperature: float) -> PositionMetric:
    def quantity(at: "Positions") -> "Tensor":
        return entropy((at.logits / temperature).log_softmax(-1))

    return PositionMetric(name=str(temperature), of=(quantity,))
