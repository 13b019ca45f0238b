"""What metrics are computed from: student and teacher at some positions."""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from trainers.trial.metrics import BINS


class Positions:
    """Student and teacher at N positions, at temperature 1. Each quantity is computed when it is
    first asked for, and once: over [N, V], a pass costs more than all the sums behind it."""

    def __init__(
        self,
        soften: Callable[[Tensor, Tensor], Tensor],
        logits: Tensor,
        teacher_logits: Tensor | None,
        labels: Tensor,
    ):
        """`logits` and `teacher_logits` [N, V] in float32; `labels` [N]. `soften` returns the
        teacher's logits as the trial's soft loss sees them, given the student's and the teacher's.
        Without a teacher nothing of the teacher may be asked for."""
        self._soften = soften
        self.logits = logits
        self._teacher_logits = teacher_logits
        self.labels = labels

    @property
    def teacher_logits(self) -> Tensor:
        """The teacher's logits [N, V]."""
        assert self._teacher_logits is not None, "a metric that uses the teacher says needs_teacher"
        return self._teacher_logits

    @cached_property
    def log_q(self) -> Tensor:
        """The student's log-probabilities [N, V]."""
        return self.logits.log_softmax(-1)

    @cached_property
    def q(self) -> Tensor:
        """The student's probabilities [N, V]."""
        return self.log_q.exp()

    @cached_property
    def log_p(self) -> Tensor:
        """The teacher's log-probabilities [N, V]."""
        return self.teacher_logits.log_softmax(-1)

    @cached_property
    def p(self) -> Tensor:
        """The teacher's probabilities [N, V]."""
        return self.log_p.exp()

    @cached_property
    def gap(self) -> Tensor:
        """log p - log q [N, V]."""
        return self.log_p - self.log_q

    @cached_property
    def soft_entropy(self) -> Tensor:
        """The entropy [N] of the teacher as the trial's soft loss sees it."""
        softened = self._soften(self.logits, self.teacher_logits)
        return entropy(softened.float().log_softmax(-1))

    @cached_property
    def is_right(self) -> Tensor:
        """Where the label has the largest logit [N]."""
        return self.logits.argmax(-1) == self.labels

    @cached_property
    def confidence(self) -> Tensor:
        """The student's largest probability [N]."""
        return self.q.amax(-1)

    @cached_property
    def overconfidence(self) -> Tensor:
        """The student's largest probability minus whether it is the label's [N]."""
        return self.confidence - self.is_right.float()

    @cached_property
    def bin(self) -> Tensor:
        """The number from 1 to `BINS` of the confidence's bin [N]; a bin has its upper end, and not
        its lower one."""
        return (self.confidence * BINS).ceil().clamp(1, BINS)

    @staticmethod
    def dot(a: Tensor, b: Tensor) -> Tensor:
        """Returns the dot product [N] of each row of `a` and `b` [N, V]."""
        product: Tensor = torch.linalg.vecdot(a, b)
        return product


def entropy(log_probabilities: Tensor) -> Tensor:
    """Returns the entropy [N] in nats of rows of log-probabilities [N, V]; -inf entries count
    nothing."""
    weighted = log_probabilities.exp() * log_probabilities
    return -weighted.nan_to_num_(nan=0.0).sum(-1)
