"""Closed forms of labelled terms that take the label apart from the other entries; see
`closed_form.py`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.losses.fused.closed_parts import DivergenceInput, row_dot
from trainers.losses.labelled import HIDDEN


def decoupled(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """t KL of label against rest + n KL(p̂‖q̂) among the others; gradient t (q_y - p_y) at the label
    and n (q̂ - p̂) - t (q_y - p_y) q̂ elsewhere."""
    target, rest = given.parameters["target_weight"], given.parameters["non_target_weight"]
    student, teacher, gap = _taken_apart(given)
    others = gap.mul_(teacher.p).sum(-1)
    binary = (teacher.log_odds.exp() * (teacher.log_odds - student.log_odds)).sum(-1)
    # The binary KL's derivative by the label's logit: t (q_y - p_y). The others share its negative
    # by q̂, since that is how their own logits move the probability of "rest".
    step = target * (student.log_odds.exp() - teacher.log_odds.exp())[..., :1]
    slope = student.p.mul_(coefficient * (rest - step))
    slope.addcmul_(teacher.p, coefficient * -rest)
    slope.scatter_(-1, given.column, coefficient * step)
    return target * binary + rest * others, slope


def diverse_reverse_kl(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """KL of label against rest, student first, + gamma KL(q̂‖p̂) among the others; with s = q_y
    (1 - q_y) (logit q_y - logit p_y) the gradient is s at the label and gamma q̂ (log(q̂/p̂) -
    KL(q̂‖p̂)) - s q̂ elsewhere."""
    gamma = given.parameters["gamma"]
    student, teacher, gap = _taken_apart(given)
    others = -row_dot(student.p, gap)
    odds = student.log_odds - teacher.log_odds
    label_and_rest = student.log_odds.exp()
    binary = row_dot(label_and_rest, odds)
    # The slope along the label's logit. As in `decoupled`, the others share its negative by q̂.
    step = label_and_rest.prod(-1, keepdim=True) * (odds[..., :1] - odds[..., 1:])
    slope = gap.add_(others).mul_(-gamma).sub_(step).mul_(student.p).mul_(coefficient)
    slope.scatter_(-1, given.column, coefficient * step)
    return (binary + gamma * others).squeeze(-1), slope


def normalised(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """gamma times the cross-entropy of p̂ to q̂ among the others; gradient gamma (q̂ - p̂). The part
    at temperature 1 is `unscaled.label_weight` times the cross-entropy to the label."""
    gamma = given.parameters["gamma"]
    student, teacher = (Others.of(side, given.column) for side in (given.student, given.teacher))
    normaliser = student.largest + student.log_total
    # -Σ p̂ log q̂; the hidden label's logit is hugely negative, but p̂ there is exactly 0.
    value = gamma * (normaliser - row_dot(teacher.p, given.student)).squeeze(-1)
    given.student.scatter_(-1, given.column, student.label)  # as in `_taken_apart`
    return value, student.p.sub_(teacher.p).mul_(gamma * coefficient)


def _taken_apart(given: DivergenceInput) -> tuple["Others", "Others", Tensor]:
    """Returns both sides without their label, and log(p̂/q̂) [C, V] in the memory of the teacher's
    logits. At the label it is finite, where p̂ and q̂ are exactly 0."""
    student, teacher = (Others.of(side, given.column) for side in (given.student, given.teacher))
    # Each largest logit is taken away on its own: what is rounded then differs from entry to entry,
    # where a sum of both would shift a whole row.
    gap = given.teacher.sub_(teacher.largest).sub_(given.student).add_(student.largest)
    gap.add_(student.log_total - teacher.log_total)
    # The student's logits get their label back: a policy's slope reads them after this.
    given.student.scatter_(-1, given.column, student.label)
    return student, teacher, gap


@dataclass(frozen=True)
class Others:
    """One side without its label. p: probabilities of the others among themselves [C, V], 0 at the
    label; largest, log_total [C, 1]: their largest logit, and what their normaliser exceeds it by;
    label: its logit [C, 1]; log_odds: log-probabilities of label and rest [C, 2], exact where
    either is so small that 1 minus the other is not."""

    p: Tensor
    largest: Tensor
    log_total: Tensor
    label: Tensor
    log_odds: Tensor

    @classmethod
    def of(cls, logits: Tensor, column: Tensor) -> "Others":
        """Returns the side of softened logits, and leaves HIDDEN in the logits at the label."""
        label = logits.gather(-1, column)
        logits.scatter_(-1, column, HIDDEN)
        p = torch.softmax(logits, dim=-1)
        # max p = exp(largest - normaliser), so the normaliser is known without a second pass of
        # exponentials. It stays in two parts: rounded at the size of the logits, their sum would be
        # off by the same amount in a whole row, which adds up over the vocabulary.
        largest = logits.amax(-1, keepdim=True)
        log_total = -p.amax(-1, keepdim=True).log()
        surplus = label - largest - log_total
        odds = torch.cat((surplus, -surplus), dim=-1)
        return cls(p, largest, log_total, label, torch.nn.functional.logsigmoid(odds))
