"""What a running trial reports, and how it learns that it has to leave. Ray and MLflow are not
known here: whoever runs a trial passes a `Reporter`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, Protocol

# The last evaluation's answers beside their prompts, scores by example, and what was seen of the
# loss, in a trial's folder and among its run's artifacts.
SAMPLES, EXAMPLES, DIAGNOSTICS = "samples.json", "examples.parquet", "diagnostics.json"
EXAMPLE_ID = "example_id"


class Outcome(StrEnum):
    """How a trial's training ended when it raised nothing. Stored in `result.json`, where a
    "stopped_early" may also be a cancelled trial and an "interrupted" a preempted one if an older
    version wrote it."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    STOPPED_EARLY = "stopped_early"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    PREEMPTED = "preempted"

    @property
    def is_resumable(self) -> bool:
        """Whether the trial left with a checkpoint, from which another attempt goes on."""
        return self in (Outcome.INTERRUPTED, Outcome.PREEMPTED)


class Leave(IntEnum):
    """Why a trial has to leave at its next step boundary. A number, since rank 0 sends it to the
    other ranks before each step."""

    NO = 0
    VERDICT = 1  # early stopping's, or a value of the objective that is not finite
    CANCELLED = 2  # the user cancelled this trial
    SWEEP_STOPPED = 3  # the user stopped the sweep, which may be resumed
    NODE_GOES = 4  # its node was announced to go; the trial goes on in another slot
    ABANDONED = 5  # nobody follows this attempt any more; another one may go on from here

    @property
    def outcome(self) -> Outcome:
        """How a trial that leaves for this reason has ended."""
        return OUTCOMES[self]


OUTCOMES = {
    Leave.VERDICT: Outcome.STOPPED_EARLY,
    Leave.CANCELLED: Outcome.CANCELLED,
    Leave.SWEEP_STOPPED: Outcome.INTERRUPTED,
    Leave.NODE_GOES: Outcome.PREEMPTED,
    Leave.ABANDONED: Outcome.INTERRUPTED,
}


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one evaluation, and what a person may look at beside them (such as generated
    answers with their prompts). by_example: those of single examples, each a list over the split,
    NaN where one was not measured, and `EXAMPLE_ID`."""

    metrics: dict[str, float]
    samples: list[dict[str, Any]]
    by_example: dict[str, list[Any]] = field(default_factory=dict)


class Reporter(Protocol):
    """Called on rank 0 only; every call returns at once."""

    def advanced(self, step: int, num_steps: int) -> None:
        """Takes how far the trial is: `step` optimiser steps of `num_steps`."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the training metrics of optimiser step `step` (1-based)."""

    def evaluated(self, step: int, evaluation: int, metrics: Mapping[str, float]) -> None:
        """Takes the validation metrics of evaluation number `evaluation` (1-based) after `step`."""

    def notice(self, text: str) -> None:
        """Takes something that the user should know and that ends nothing."""

    def reason_to_leave(self) -> Leave:
        """Returns why the trial has to leave at this step boundary, `Leave.NO` when it goes on."""
        ...


class SilentReporter:
    """A reporter that keeps nothing and lets the trial run to its end, as in supervised fits."""

    def advanced(self, step: int, num_steps: int) -> None:
        """Drops how far the trial is."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Drops the metrics."""

    def evaluated(self, step: int, evaluation: int, metrics: Mapping[str, float]) -> None:
        """Drops the metrics."""

    def notice(self, text: str) -> None:
        """Drops the text."""

    def reason_to_leave(self) -> Leave:
        """Returns `Leave.NO`."""
        return Leave.NO


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
