"""What a running trial tells the world, and how the world stops it. No Ray, no MLflow: both are
arguments."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Protocol


class Outcome(StrEnum):
    """How a trial's training ended when it raised nothing."""

    COMPLETED = "completed"
    STOPPED_EARLY = "stopped_early"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"  # left with a checkpoint, from which it will be taken up again


class Stop(IntEnum):
    """What a trial is to do at a step boundary."""

    NO = 0
    END = 1  # leave for good
    PAUSE = 2  # write a checkpoint and leave: another attempt goes on from it


class Reporter(Protocol):
    """Called on rank 0 only; every call returns at once."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the training metrics of optimiser step `step` (1-based)."""

    def evaluated(self, step: int, evaluation: int, metrics: Mapping[str, float]) -> None:
        """Takes the validation metrics of evaluation number `evaluation` (1-based) after `step`."""

    def notice(self, text: str) -> None:
        """Takes something that the user should know and that ends nothing."""

    def should_stop(self) -> int:
        """Returns a `Stop`: whether, and how, the trial has to leave at this step boundary."""


class SilentReporter:
    """A reporter that keeps nothing and never stops: for supervised fits and reruns."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Drops the metrics."""

    def evaluated(self, step: int, evaluation: int, metrics: Mapping[str, float]) -> None:
        """Drops the metrics."""

    def notice(self, text: str) -> None:
        """Drops the text."""

    def should_stop(self) -> bool:
        """Returns False."""
        return False


@dataclass(frozen=True)
class TrialResult:
    """A trial's end: final validation metrics, number of steps done, seconds spent training
    (evaluation apart), the student's Hugging Face folder (None when diverged) and the SHA-256 of
    its weights."""

    outcome: Outcome
    metrics: dict[str, float]
    steps: int
    train_s: float
    student: Path | None
    weights_sha256: str | None
