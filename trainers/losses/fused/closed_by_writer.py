"""Closed forms of the terms that differ with who wrote the text; see `closed_form.py`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.losses.fused.closed_parts import (
    DivergenceInput,
    Sides,
    positive,
    row_sum,
    through_softmax,
)


@dataclass(frozen=True)
class _Weights:
    """Of each row [C, 1]: own, of KL(q‖m); others, of KL(p‖m); share, q's in m. is_constant:
    whether KL(q‖m) takes m for a constant."""

    own: Tensor
    others: Tensor
    share: Tensor
    is_constant: bool


def contrastive_skew_kl(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """KL(q‖alpha q + (1 - alpha) p) where the student wrote, the mixture constant, elsewhere
    KL(p‖alpha p + (1 - alpha) q)."""
    own = _own(given)
    alpha = torch.full_like(own, given.parameters["alpha"])
    if given.skew is not None:
        alpha = given.skew.to(own.dtype).unsqueeze(-1)
    share = torch.where(own > 0, alpha, 1 - alpha)
    return _compared(given, coefficient, _Weights(own, 1 - own, share, is_constant=True))


def stepwise_jsd(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """(1 - beta) KL(q‖m) where the student wrote, elsewhere beta KL(p‖m)."""
    own, beta = _own(given), given.parameters["beta"]
    share = torch.full_like(own, 1 - beta)
    weights = _Weights((1 - beta) * own, beta * (1 - own), share, is_constant=False)
    return _compared(given, coefficient, weights)


def _own(given: DivergenceInput) -> Tensor:
    """Returns 1 for the rows that the student wrote, else 0, [C, 1]."""
    if given.by_student is None:
        return given.student.new_zeros(len(given.student), 1)
    return given.by_student.to(given.student.dtype).unsqueeze(-1)


def _compared(
    given: DivergenceInput, coefficient: Tensor, weights: _Weights
) -> tuple[Tensor, Tensor]:
    """own KL(q‖m) + others KL(p‖m); by log q it is own (q log(q/m) - s q q/m) - others s p q/m, s =
    share, the second term where m is no constant."""
    sides = Sides.of(given)
    mixture = positive(torch.lerp(sides.p, sides.q, weights.share))
    quotient = sides.q / mixture
    mixture.log_()
    of_teacher = row_sum(sides.log_p.sub_(mixture).mul_(sides.p))
    terms = sides.log_q.sub_(mixture).mul_(sides.q)  # q log(q/m), in log_q's memory
    value = weights.own * row_sum(terms) + weights.others * of_teacher
    inner = sides.p.mul_(weights.others)  # in p's memory
    if not weights.is_constant:
        inner.addcmul_(sides.q, weights.own)
    by_log_q = terms.mul_(weights.own).sub_(inner.mul_(quotient).mul_(weights.share))
    return value.squeeze(-1), through_softmax(by_log_q, sides.q, coefficient)
