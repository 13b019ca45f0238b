"""Labelled terms that compare teacher and student in one way where the student wrote the text, and
in another way elsewhere. Without text of the student only the second one is left."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainers.losses.divergences import kl, log_probabilities
from trainers.losses.labelled import LabelledInput, Parts


def contrastive_skew_kl(rows: LabelledInput, parameters: Mapping[str, float]) -> Parts:
    """KL(q‖m) with m = alpha q + (1 - alpha) p where the student wrote, m constant; elsewhere
    KL(p‖m) with m = alpha p + (1 - alpha) q. [N], in nats.

    Ko et al. 2025 (DistiLLM-2), who write pairs of texts to each prompt before a training.
    """
    student, teacher = log_probabilities(rows.softened.student, rows.softened.teacher)
    alpha = _column(rows.skew, parameters["alpha"], student)
    own = kl(student, _mixed(student.detach(), teacher, alpha))
    others = kl(teacher, _mixed(teacher, student, alpha))
    return Parts(torch.where(_by_student(rows), own, others))


def stepwise_jsd(rows: LabelledInput, parameters: Mapping[str, float]) -> Parts:
    """(1 - beta) KL(q‖m) where the student wrote, elsewhere beta KL(p‖m), m = beta p + (1 - beta)
    q, with the gradient through m. [N], in nats.

    Together the generalized JSD of whole texts, each half on the text that its expectation is
    over: Wen et al. 2023 (f-distill), whose beta is 1 less this one.
    """
    student, teacher = log_probabilities(rows.softened.student, rows.softened.teacher)
    beta = parameters["beta"]
    mixture = _mixed(teacher, student, _column(None, beta, student))
    own, others = (1 - beta) * kl(student, mixture), beta * kl(teacher, mixture)
    return Parts(torch.where(_by_student(rows), own, others))


def _by_student(rows: LabelledInput) -> Tensor:
    if rows.by_student is None:
        return torch.zeros_like(rows.labels, dtype=torch.bool)
    return rows.by_student


def _column(values: Tensor | None, constant: float, like: Tensor) -> Tensor:
    """Returns the values [N], or the constant, as [N, 1]."""
    if values is None:
        return like.new_full((len(like), 1), constant)
    return values.to(like.dtype).unsqueeze(-1)


def _mixed(log_own: Tensor, log_other: Tensor, share: Tensor) -> Tensor:
    """Returns log(share own + (1 - share) other), share [N, 1]."""
    return torch.logaddexp(log_own + share.log(), log_other + torch.log1p(-share))
