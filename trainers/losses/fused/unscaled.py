"""Closed forms of what a labelled term adds outside of the policy's scaling.

A function takes the student's unsoftened logits [C, V], where it needs them, and the
`DivergenceInput` of the softened ones, before the divergence overwrites that; it overwrites
nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trainers.losses.divergences import in_float
from trainers.losses.fused.closed_classifiers import is_outside
from trainers.losses.fused.closed_labelled import Others
from trainers.losses.fused.closed_parts import DivergenceInput, row_dot
from trainers.losses.policies import largest_logit
from trainers.trial.traits import Outliers


def label_weight(given: DivergenceInput) -> Tensor:
    """Returns p_y at temperature 1 [C, 1], of unsoftened logits."""
    teacher = _teacher(given)
    normaliser = torch.logsumexp(teacher, dim=-1, keepdim=True)
    return (teacher.gather(-1, given.column) - normaliser).exp()


def label_weight_outside(given: DivergenceInput) -> Tensor:
    """Returns `hard_rest` [C, 1] where the hard loss takes the place of `entropy_gated`, else 0."""
    log_p = torch.log_softmax(given.teacher, dim=-1)
    outside = is_outside(log_p.exp(), log_p, given).to(log_p.dtype)
    is_hard = given.parameters["outliers"] == Outliers.HARD_LOSS
    return outside * (given.hard_rest if is_hard else 0.0)


def pairs(student: Tensor, given: DivergenceInput) -> tuple[Tensor, Tensor]:
    """w ½ Σ a (d - Σ a d)², d = v - z, of `improved_kl`; gradient -w a (d - Σ a d)."""
    weight, teacher = given.parameters["pair_weight"], _teacher(given)
    a = torch.softmax(teacher / given.parameters["pair_tau"], dim=-1)
    gap = teacher - student
    gap.sub_(row_dot(a, gap))
    slope = a.mul_(gap)
    value = 0.5 * weight * row_dot(slope, gap)
    return value.squeeze(-1), slope.mul_(-weight)


def refined_target(student: Tensor, given: DivergenceInput) -> tuple[Tensor, Tensor]:
    """t T² KL of the teacher's largest entry against its rest to the label against its rest, P and
    Q, at T = target_tau; gradient t T (Q - P) at the label, whose negative the others share by
    q̂."""
    tau, weight = given.parameters["target_tau"], given.parameters["target_weight"]
    teacher = _teacher(given)
    _, place = largest_logit(teacher)
    label = Others.of(student / tau, given.column)
    largest = Others.of(teacher / tau, place.unsqueeze(-1)).log_odds
    value = weight * tau**2 * row_dot(largest.exp(), largest - label.log_odds)
    step = weight * tau * (label.log_odds.exp() - largest.exp())[..., :1]
    slope = label.p.mul_(-step).scatter_(-1, given.column, step)
    return value.squeeze(-1), slope


def _teacher(given: DivergenceInput) -> Tensor:
    assert given.unsoftened is not None  # the walk gives it
    return in_float(given.unsoftened)


# The weight of the label's cross-entropy at temperature 1, of the rows that have such a part: its
# gradient is the hard loss's.
LABEL_WEIGHTS: dict[str, Callable[[DivergenceInput], Tensor]] = {
    "normalised": label_weight,
    "entropy_gated": label_weight_outside,
}
# Any other such part: its values [C] and its gradient by the unsoftened logits [C, V].
UNSCALED: dict[str, Callable[[Tensor, DivergenceInput], tuple[Tensor, Tensor]]] = {
    "improved_kl": pairs,
    "refined": refined_target,
}
