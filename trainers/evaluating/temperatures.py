"""What an evaluator of a task that samples has beside the others."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from trainers.parts import Evaluator, Student


@runtime_checkable
class TemperatureEvaluator(Evaluator, Protocol):
    """An evaluator of a task that samples."""

    def temperatures(self, student: Student) -> dict[str, float]:
        """Returns generation temperatures that are chosen on the split, by name."""

    def at_temperatures(self, student: Student, chosen: Mapping[str, float]) -> dict[str, float]:
        """Returns the metrics of answers sampled at each of them, and these."""
