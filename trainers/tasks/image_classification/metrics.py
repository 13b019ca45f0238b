"""The table of metrics of an image classifier. An entry here is all that a new metric takes; no
torch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trainers.tasks.position_metrics import (
    OF_THE_TEACHER,
    RANKING,
    STUDENT_ENTROPY,
    PositionMetric,
    Quantity,
)
from trainers.trial.metrics import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.tasks.positions import Positions

BINS = 15  # of equal width, as Guo et al. 2017 have them
TOP1, BEST_TOP1 = "top1", "top1_best_epoch"


def is_right(at: "Positions") -> "Tensor":
    """1 where the label has the largest logit."""
    return at.logits.argmax(-1) == at.labels


def is_among_five(at: "Positions") -> "Tensor":
    """1 where fewer than five logits are larger than the label's."""
    label = at.logits.gather(1, at.labels[:, None])
    return (at.logits > label).sum(-1) < 5


def overconfidence_in(number: int) -> Quantity:
    """Returns a function of positions: largest probability minus `is_right`, where the former is in
    bin `number`; elsewhere 0."""

    def quantity(at: "Positions") -> "Tensor":
        confidence = at.q.amax(-1)
        # A bin has its upper end, and not its lower one.
        is_here = (confidence * BINS).ceil().clamp(1, BINS) == number + 1
        return (confidence - is_right(at).float()) * is_here

    return quantity


def sum_of_gaps(*means: float) -> float:
    """Returns the expected calibration error of the means over all positions of each bin's
    overconfidence."""
    return float(sum(abs(mean) for mean in means))


# Those that can be an objective come first, in the order in which they are offered.
TABLE: tuple[PositionMetric, ...] = (
    PositionMetric(
        name=TOP1,
        direction="maximize",
        beside_rankings=True,
        of=(is_right,),
        value=lambda share: 100 * share,
    ),
    PositionMetric(
        name="top5", direction="maximize", of=(is_among_five,), value=lambda share: 100 * share
    ),
    *RANKING,
    PositionMetric(
        name="calibration_error",
        direction="minimize",
        of=tuple(overconfidence_in(number) for number in range(BINS)),
        value=sum_of_gaps,
    ),
    STUDENT_ENTROPY,
    *OF_THE_TEACHER,
)
# The largest top1 so far, as the literature reports it on the test set: it selects an epoch by what
# it is measured on, so nothing is ranked by it.
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in TABLE} | {
    BEST_TOP1: Metric(name=BEST_TOP1)
}
