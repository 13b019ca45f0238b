"""The table of metrics of an image classifier. An entry here is all that a new metric takes; no
torch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trainers.tasks.position_metrics import (
    CALIBRATION_ERROR,
    OF_THE_TEACHER,
    RANKING,
    STUDENT_ENTROPY,
    PositionMetric,
)
from trainers.trial.metrics import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.tasks.positions import Positions

TOP1, BEST_TOP1 = "top1", "top1_best_epoch"


def is_among_five(at: "Positions") -> "Tensor":
    """1 where fewer than five logits are larger than the label's."""
    label = at.logits.gather(1, at.labels[:, None])
    return (at.logits > label).sum(-1) < 5


# Those that can be an objective come first, in the order in which they are offered.
TABLE: tuple[PositionMetric, ...] = (
    PositionMetric(
        name=TOP1,
        direction="maximize",
        beside_rankings=True,
        of=(lambda at: at.is_right,),
        value=lambda share: 100 * share,
    ),
    PositionMetric(
        name="top5", direction="maximize", of=(is_among_five,), value=lambda share: 100 * share
    ),
    *RANKING,
    CALIBRATION_ERROR,
    STUDENT_ENTROPY,
    *OF_THE_TEACHER,
)
# The largest top1 so far, as the literature reports it on the test set: it selects an epoch by what
# it is measured on, so nothing is ranked by it.
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in TABLE} | {
    BEST_TOP1: Metric(name=BEST_TOP1)
}
