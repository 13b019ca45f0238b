"""What a metric is to everyone but the task that computes it; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]
MAXIMIZE, MINIMIZE = "maximize", "minimize"
BINS = 15  # of the calibration error, of equal width, as Guo et al. 2017 have them


def sign_of(direction: str | None) -> int:
    """Returns 1 where more is better, else -1."""
    return 1 if direction == MAXIMIZE else -1


TRAINING_METRICS = (
    "loss",
    "hard_loss",
    "soft_loss",
    "sequence_loss",
    "soft_prompt_loss",
    "soft_prompt_shift",
    "learning_rate",
    "gradient_norm",
    "tokens_per_s",
    "data_wait_share",
    "write_share",
)
"""What a trial reports of its training: beside every step, and beside an evaluation its speed."""

# Metrics of a trial's loss: they say nothing where there is none.
OF_THE_LOSS = ("teacher_entropy_mean", "teacher_entropy_std")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that every evaluation measures alike in every trial.

    direction: which way is better; None for a number that explains a trial and never ranks it.
    needs_teacher: measured only where the trial has a teacher. needs_text: measured on sampled
    answers, so only where some are asked for. beside_rankings: shown beside every ranking,
    whatever ranks. floor: the metric that holds what it comes to where answers have nothing to do
    with their prompts. error: the metric that holds its standard error over prompts. is_agreement:
    it is the share of predictions, 0 to 1, in which student and teacher agree.
    """

    name: str
    direction: Direction | None = None
    needs_teacher: bool = False
    needs_text: bool = False
    beside_rankings: bool = False
    floor: str | None = None
    error: str | None = None
    is_agreement: bool = False


def directions(metrics: Mapping[str, Metric]) -> dict[str, Direction]:
    """Returns the metrics that rank trials, each with its direction, in the order of the table."""
    return {
        name: metric.direction for name, metric in metrics.items() if metric.direction is not None
    }
