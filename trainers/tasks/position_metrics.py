"""Metrics that are computed from per-position quantities, averaged over all learned positions, and
those of them that every task measures; no torch.

The functions get objects that hold tensors, and only use their methods, so that the names and
directions are known where nothing heavy may be loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainers.trial.diagnosis import LOGIT_SCALE_RATIO
from trainers.trial.metrics import BINS, Metric

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.tasks.positions import Positions

# Takes the `Positions` of N positions and returns a tensor [N].
Quantity = Callable[[Any], Any]


def the_mean(mean: float) -> float:
    """Returns the mean itself: what most metrics are."""
    return mean


@dataclass(frozen=True, kw_only=True)
class PositionMetric(Metric):
    """A metric made of means over positions. `of`: functions of N positions that each return [N];
    one that several metrics name is computed once. `value`: the metric as a function of their means
    over the split, in that order."""

    of: tuple[Quantity, ...]
    value: Callable[..., float] = the_mean

    @property
    def is_by_example(self) -> bool:
        """Whether it is also known of each example: it ranks trials, and is a function of one
        mean."""
        return self.direction is not None and len(self.of) == 1


def label_loss(at: "Positions") -> "Tensor":
    """-log q_y."""
    return -at.log_q.gather(1, at.labels[:, None])[:, 0]


def student_scale(at: "Positions") -> "Tensor":
    """The largest centred logit of the student: the scale that CIST fixes."""
    return largest_centred_logit(at.logits)


def teacher_scale(at: "Positions") -> "Tensor":
    """The largest centred logit of the teacher."""
    return largest_centred_logit(at.teacher_logits)


def largest_centred_logit(logits: "Tensor") -> "Tensor":
    """Returns max - mean of each row of logits [N, V]: their scale, blind to added constants."""
    return logits.max(-1).values - logits.mean(-1)


def overconfidence_in(number: int) -> Quantity:
    """Returns a function of positions: largest probability minus whether it is the label's, where
    the former is in bin `number`; elsewhere 0."""

    def quantity(at: "Positions") -> "Tensor":
        return at.overconfidence * (at.bin == number + 1)

    return quantity


def sum_of_gaps(*means: float) -> float:
    """Returns the expected calibration error of the means over all positions of each bin's
    overconfidence."""
    return float(sum(abs(mean) for mean in means))


def soft_entropy(at: "Positions") -> "Tensor":
    """Entropy of the teacher as the soft loss sees it."""
    return at.soft_entropy


def soft_entropy_squared(at: "Positions") -> "Tensor":
    """Its square, in float64: the variance is a small difference of large numbers."""
    return at.soft_entropy.double().square()


def deviation(mean: float, mean_square: float) -> float:
    """The standard deviation; rounding can make the variance of equal numbers negative."""
    variance: float = max(mean_square - mean**2, 0.0)
    return float(variance**0.5)


# Those that can be an objective come first, in the order in which they are offered.
RANKING: tuple[PositionMetric, ...] = (
    PositionMetric(
        name="top1_agreement",
        direction="maximize",
        needs_teacher=True,
        beside_rankings=True,
        is_agreement=True,
        of=(lambda at: at.logits.argmax(-1) == at.teacher_logits.argmax(-1),),
    ),
    PositionMetric(
        name="cross_entropy", direction="minimize", beside_rankings=True, of=(label_loss,)
    ),
    PositionMetric(
        name="kl_teacher_student",
        direction="minimize",
        needs_teacher=True,
        of=(lambda at: at.dot(at.p, at.gap),),
    ),
    PositionMetric(
        name="kl_student_teacher",
        direction="minimize",
        needs_teacher=True,
        of=(lambda at: -at.dot(at.q, at.gap),),
    ),
)
CALIBRATION_ERROR = PositionMetric(
    name="calibration_error",
    direction="minimize",
    of=tuple(overconfidence_in(number) for number in range(BINS)),
    value=sum_of_gaps,
)
# A sharper student scores better on sampled text, so its entropy stands beside every ranking.
STUDENT_ENTROPY = PositionMetric(
    name="student_entropy", beside_rankings=True, of=(lambda at: -at.dot(at.q, at.log_q),)
)
OF_THE_TEACHER: tuple[PositionMetric, ...] = (
    PositionMetric(
        name="teacher_entropy", needs_teacher=True, of=(lambda at: -at.dot(at.p, at.log_p),)
    ),
    PositionMetric(name="teacher_entropy_mean", needs_teacher=True, of=(soft_entropy,)),
    PositionMetric(
        name="teacher_entropy_std",
        needs_teacher=True,
        of=(soft_entropy, soft_entropy_squared),
        value=deviation,
    ),
    PositionMetric(
        name=LOGIT_SCALE_RATIO,
        needs_teacher=True,
        of=(student_scale, teacher_scale),
        value=lambda student, teacher: student / max(teacher, 1e-30),
    ),
)
