"""What metrics are computed from: student and teacher at some positions, and sums over many."""

from collections.abc import Callable, Iterable
from functools import cached_property

import torch
from torch import Tensor

from trainers.tasks.position_metrics import PositionMetric
from trainers.world import World


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

    @staticmethod
    def dot(a: Tensor, b: Tensor) -> Tensor:
        """Returns the dot product [N] of each row of `a` and `b` [N, V]."""
        product: Tensor = torch.linalg.vecdot(a, b)
        return product


class PositionSums:
    """The sums over positions that a list of metrics needs. In float64, so that adding many chunks
    loses nothing."""

    def __init__(self, metrics: Iterable[PositionMetric], device: torch.device):
        self._metrics = list(metrics)
        # a dict keeps the order and holds a function that several metrics name once
        self._quantities = list(dict.fromkeys(q for metric in self._metrics for q in metric.of))
        self._sums = torch.zeros(1 + len(self._quantities), dtype=torch.float64, device=device)

    def add(self, at: Positions) -> None:
        """Adds some positions."""
        self._sums[0] += len(at.labels)
        for i, quantity in enumerate(self._quantities, start=1):
            self._sums[i] += quantity(at).double().sum()

    def values(self, world: World) -> dict[str, float]:
        """Returns the metrics over the positions of all workers. To be called once, by all."""
        count, *sums = world.summed(self._sums).tolist()
        means = {q: s / max(count, 1.0) for q, s in zip(self._quantities, sums, strict=True)}
        return {m.name: m.value(*(means[quantity] for quantity in m.of)) for m in self._metrics}


def entropy(log_probabilities: Tensor) -> Tensor:
    """Returns the entropy [N] in nats of rows of log-probabilities [N, V]; -inf entries count
    nothing."""
    weighted = log_probabilities.exp() * log_probabilities
    return -weighted.nan_to_num_(nan=0.0).sum(-1)
