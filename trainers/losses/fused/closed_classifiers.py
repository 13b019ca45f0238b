"""Closed forms of labelled terms of image classification; see `closed_form.py`."""

import math

import torch
from torch import Tensor

from trainers.losses.fused.closed_parts import DivergenceInput, row_dot
from trainers.losses.labelled import HIDDEN
from trainers.trial.traits import Outliers


def refined(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """n KL(p̂‖q̂) among the entries that the teacher ranks below the label; gradient n (q̂ - p̂). The
    part with the label is `unscaled.refined_target`."""
    assert given.unsoftened is not None  # what is ranked, so that rounding makes no ties
    is_hidden = given.unsoftened >= given.unsoftened.gather(-1, given.column)
    log_q = torch.log_softmax(given.student.masked_fill(is_hidden, HIDDEN), dim=-1)
    log_p = torch.log_softmax(given.teacher.masked_fill_(is_hidden, HIDDEN), dim=-1)
    weight = given.parameters["non_target_weight"]
    # Where nothing is left all are hidden alike, so that value and gradient are 0.
    p = log_p.exp()
    value = weight * row_dot(p, log_p.sub_(log_q)).squeeze(-1)
    return value, log_q.exp_().sub_(p).mul_(weight * coefficient)


def improved_kl(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """c times the cross-entropy of p to q; gradient c (q - p). The pairs are `unscaled.pairs`."""
    log_q, log_p = given.log_probabilities()
    weight = given.parameters["cross_entropy_weight"]
    p = log_p.exp_()
    value = -weight * row_dot(p, log_q).squeeze(-1)
    return value, log_q.exp_().sub_(p).mul_(weight * coefficient)


def entropy_gated(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p‖q) where the teacher's entropy is in range, with gradient q - p; elsewhere -log q_y with
    q - 1[label], or nothing: the hard loss there is `unscaled.label_weight_outside`."""
    log_q, log_p = given.log_probabilities()
    p = log_p.exp()
    outside = is_outside(p, log_p, given)
    value = row_dot(p, log_p.sub_(log_q))
    if given.parameters["outliers"] == Outliers.HARD_TARGET:
        value = torch.where(outside, -log_q.gather(-1, given.column), value)
        # The label alone is the target there.
        p.masked_fill_(outside, 0.0).scatter_add_(-1, given.column, outside.to(p.dtype))
    else:
        value = torch.where(outside, 0.0, value)
        coefficient = torch.where(outside, 0.0, coefficient)
    return value.squeeze(-1), log_q.exp_().sub_(p).mul_(coefficient)


def is_outside(p: Tensor, log_p: Tensor, given: DivergenceInput) -> Tensor:
    """Returns where the teacher's entropy is out of range [C, 1]."""
    share = -row_dot(p, log_p) / math.log(p.shape[-1])
    low, high = given.parameters["entropy_min"], given.parameters["entropy_max"]
    # What is not a number is not outside: it shows in the loss.
    return share.lt(low).logical_or_(share.gt(high))
