"""What closed forms are given, and what several of them are made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class DivergenceInput:
    """student, teacher: softened logits [C, V], the teacher's free to be overwritten; column: the
    labels [C, 1]; parameters: the divergence's own; pull: None, or zeros [C] to which a divergence
    that goes with a learned temperature adds Σ v dD/dv, v the teacher's logits; by_student, skew:
    [C] as in `LabelledInput`; logs: log q and log p [C, V], free to be overwritten, where they are
    known already; unsoftened: the teacher's logits [C, V] before they were softened, not to be
    overwritten; hard_rest: see `LabelledInput`.

    A learned temperature tau softens both sides: with v = raw / tau, dD/dtau has the part
    -Σ v dD/dv / tau from the teacher beside the student's. `walk` adds the student's.
    """

    student: Tensor
    teacher: Tensor
    column: Tensor
    parameters: Mapping[str, Any]
    pull: Tensor | None = None
    by_student: Tensor | None = None
    skew: Tensor | None = None
    logs: tuple[Tensor, Tensor] | None = None
    unsoftened: Tensor | None = None
    hard_rest: float = 0.0

    def log_probabilities(self) -> tuple[Tensor, Tensor]:
        """Returns log q and log p [C, V], free to be overwritten."""
        if self.logs is not None:
            return self.logs
        return torch.log_softmax(self.student, dim=-1), torch.log_softmax(self.teacher, dim=-1)


ClosedForm = Callable[[DivergenceInput, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Sides:
    """Probabilities of student and teacher and their logs, all [C, V] and free to be
    overwritten."""

    q: Tensor
    p: Tensor
    log_q: Tensor
    log_p: Tensor

    @classmethod
    def of(cls, given: DivergenceInput) -> "Sides":
        """Returns both sides."""
        log_q, log_p = given.log_probabilities()
        return cls(log_q.exp(), log_p.exp(), log_q, log_p)


def both_kls(
    sides: Sides, forward: Tensor, reverse: Tensor, coefficient: Tensor
) -> tuple[Tensor, Tensor]:
    """forward KL(p‖q) + reverse KL(q‖p), factors [C, 1]; gradient forward (q - p) + reverse q
    (log(q/p) - KL(q‖p))."""
    gap = sides.log_q.sub_(sides.log_p)  # log(q/p), in log_q's memory
    terms = torch.mul(gap, sides.q, out=sides.log_p)  # q log(q/p), in log_p's, which has served
    of_student, of_teacher = row_sum(terms), -row_sum(gap.mul_(sides.p))
    value = (forward * of_teacher + reverse * of_student).squeeze(-1)
    forward, reverse = forward * coefficient, reverse * coefficient
    slope = terms.mul_(reverse).addcmul_(sides.q, forward - reverse * of_student)
    return value, slope.addcmul_(sides.p, -forward)


def through_softmax(by_log_q: Tensor, q: Tensor, coefficient: Tensor) -> Tensor:
    """Returns the gradient with respect to the logits, times coefficient, from the one with respect
    to log q (overwritten)."""
    return by_log_q.addcmul_(q, -row_sum(by_log_q)).mul_(coefficient)


def pull_of(by_teacher: Tensor, teacher: Tensor) -> Tensor:
    """Returns Σ v dD/dv [C] of each row: by_teacher is dD/dv (overwritten), teacher v."""
    return by_teacher.mul_(teacher).sum(-1)


def row_sum(terms: Tensor) -> Tensor:
    """Returns the rows' sums [C, 1]."""
    return terms.sum(-1, keepdim=True)


def row_dot(first: Tensor, second: Tensor) -> Tensor:
    """Returns the rows' sums of products [C, 1]."""
    sums: Tensor = torch.linalg.vecdot(first, second)
    return sums.unsqueeze(-1)


def positive(mixture: Tensor) -> Tensor:
    """Returns the mixture without zeros (in place): where both sides underflow, their factors make
    the entry count nothing, and its log must be finite for 0 times it to be 0."""
    return mixture.clamp_(min=torch.finfo(mixture.dtype).tiny)
