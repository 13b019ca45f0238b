"""Labelled terms: soft losses that also depend on labels, unsoftened logits or the training's
progress.

Every term takes a `LabelledInput` and its own parameters by name, and returns `Parts`: values [N]
that the policy's scaling multiplies, and values [N] that it does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainers.losses.divergences import kl, log_probabilities
from trainers.losses.policies import Softened


@dataclass(frozen=True)
class LabelledInput:
    """Some positions: softened logits, unsoftened ones in float [N, V], labels [N], and what a
    first pass or a schedule decides: row_weight [N] (token_scaled), mix in [0, 1] (interpolated),
    by_student, where the student wrote [N], and skew [N] (both of `by_writer`). hard_rest: the
    cross-entropy in the soft loss with which the hard loss would have weight 1. num_views: how many
    views of an image are beside each other."""

    softened: Softened
    student_logits: Tensor
    teacher_logits: Tensor
    labels: Tensor
    row_weight: Tensor | None = None
    mix: Tensor | None = None
    hard_rest: float = 0.0
    num_views: int = 1
    by_student: Tensor | None = None
    skew: Tensor | None = None

    def views(self) -> "list[LabelledInput]":
        """Returns the positions of the first view of each image, those of the second, …"""
        return [self._view(slice(k, None, self.num_views)) for k in range(self.num_views)]

    def _view(self, chosen: slice) -> "LabelledInput":
        softened = replace(
            self.softened,
            student=self.softened.student[chosen],
            teacher=self.softened.teacher[chosen],
        )
        return replace(
            self,
            softened=softened,
            student_logits=self.student_logits[chosen],
            teacher_logits=self.teacher_logits[chosen],
            labels=self.labels[chosen],
            num_views=1,
        )


@dataclass(frozen=True)
class Parts:
    """scaled: [N], still to be multiplied by the policy's weight; plain: [N] as it is, or None."""

    scaled: Tensor
    plain: Tensor | None = None

    @classmethod
    def of_views(cls, parts: "Sequence[Parts]") -> "Parts":
        """Returns the parts of each view in the order of the positions again."""
        if len(parts) == 1:
            return parts[0]
        plain = [part.plain for part in parts if part.plain is not None]
        scaled = torch.stack([part.scaled for part in parts], 1).flatten()
        return cls(scaled, torch.stack(plain, 1).flatten() if plain else None)


def decoupled(rows: LabelledInput, parameters: Mapping[str, float]) -> Parts:
    """target_weight KL(label against rest) + non_target_weight KL(p̂‖q̂) among the other entries.

    In nats. p̂, q̂: p, q without the label, renormalised. With weights 1 and 1 - p_y it would be
    forward KL; a weight of 0 leaves its part out.
    Zhao et al. 2022 (DKD), whose code hides the label with a logit of -1000 and, ported to language
    models elsewhere, divides by all positions, not by the valid ones.
    """
    student = _split(rows.softened.student, rows.labels)
    teacher = _split(rows.softened.teacher, rows.labels)
    binary, others = kl(teacher.binary, student.binary), kl(teacher.others, student.others)
    weights = parameters["target_weight"], parameters["non_target_weight"]
    return Parts(weights[0] * binary + weights[1] * others)


def diverse_reverse_kl(rows: LabelledInput, parameters: Mapping[str, float]) -> Parts:
    """KL(label against rest), student first, + gamma KL(q̂‖p̂) among the other entries.

    In nats. p̂, q̂: p, q without the label, renormalised. Reverse KL has 1 - q_y in gamma's place,
    which fades as the student grows sure. Luong, Tran and Chen 2026 (DRKL), as an implementation by
    others has it; theirs is not public, nor whether their target is the label.
    """
    student = _split(rows.softened.student, rows.labels)
    teacher = _split(rows.softened.teacher, rows.labels)
    binary, others = kl(student.binary, teacher.binary), kl(student.others, teacher.others)
    return Parts(binary + parameters["gamma"] * others)


def normalised(rows: LabelledInput, parameters: Mapping[str, float]) -> Parts:
    """-p_y log q_y at temperature 1, plus gamma times the cross-entropy of p̂ to q̂, softened.

    In nats. p̂, q̂: the other entries, renormalised. gamma 0 leaves them out; only they are scaled,
    as in the code of Yang et al. 2023 (NKD). A cross-entropy, so not 0 at p = q.
    """
    student, teacher = log_probabilities(rows.student_logits, rows.teacher_logits)
    column = rows.labels.unsqueeze(-1)
    # At temperature 1, from the unsoftened logits, and so outside the policy's scaling.
    target = -(teacher.gather(-1, column).exp() * student.gather(-1, column)).squeeze(-1)
    hidden_student = rows.softened.student.scatter(-1, column, HIDDEN)
    hidden_teacher = rows.softened.teacher.scatter(-1, column, HIDDEN)
    student, teacher = log_probabilities(hidden_student, hidden_teacher)
    return Parts(-parameters["gamma"] * (teacher.exp() * student).sum(-1), target)


def token_scaled(rows: LabelledInput, parameters: Mapping[str, float]) -> Parts:
    """w KL(p‖q), [N]: w is a softmax over a sequence's positions of the teacher's cross-entropy to
    the label over token_temperature, times the number of those positions, so its mean is 1.

    In nats. Towards token_temperature 0 the hardest position of each sequence has all the weight,
    towards infinity all have the same. Kim et al. 2023 (TSLD) sum over a sequence with weights that
    add to 1; here the mean over positions keeps its size beside the hard loss.
    """
    assert rows.row_weight is not None  # made by losses.passes for this term
    student, teacher = log_probabilities(rows.softened.student, rows.softened.teacher)
    return Parts(rows.row_weight * kl(teacher, student))


def interpolated(rows: LabelledInput, parameters: Mapping[str, float]) -> Parts:
    """KL(r‖q), r = softmax((1 - t) student + t teacher) of softened logits, held constant, [N].

    In nats. t = 1 is forward KL, t = 0 has no gradient. Shing et al. 2025 (TAID), who report the
    cross-entropy form and know no tau; the schedule of t is in `schedules.py`.
    """
    assert rows.mix is not None  # made by losses.schedules for this term
    softened = rows.softened
    mix = rows.mix.to(softened.student.dtype)
    target = torch.lerp(softened.student.detach(), softened.teacher, mix)
    student, teacher = log_probabilities(softened.student, target)
    return Parts(kl(teacher, student))


# A logit whose softmax is exactly 0, in float32 too, and whose difference from itself is 0, where
# that of -inf is NaN.
HIDDEN = -1e30


@dataclass(frozen=True)
class _Split:
    """binary: log-probabilities of label and rest [N, 2]; others: log-probabilities [N, V] of the
    other entries among themselves (the label's column is hugely negative)."""

    binary: Tensor
    others: Tensor


def _split(logits: Tensor, labels: Tensor) -> _Split:
    column = labels.unsqueeze(-1)
    label = torch.log_softmax(logits, dim=-1).gather(-1, column)
    others = torch.log_softmax(logits.scatter(-1, column, HIDDEN), dim=-1)
    return _Split(torch.cat((label, _log_rest(logits, label, others, column)), dim=-1), others)


def _log_rest(logits: Tensor, label: Tensor, others: Tensor, column: Tensor) -> Tensor:
    """Returns log(1 - p_y) [N, 1]: from p_y where that is small, else from the two normalisers.

    1 - p_y of a p_y near 1 has no digits left. There log(1 - p_y) is the log of the others' sum of
    exponentials less that of all: each is a logit less its log-probability, of any entry that has
    both, such as the label's neighbour.
    """
    neighbour = (column + 1) % logits.shape[-1]
    others_normaliser = logits.gather(-1, neighbour) - others.gather(-1, neighbour)
    normaliser = logits.gather(-1, column) - label
    # Clamped for its gradient: where p_y is 1 the branch that `where` drops would make it NaN.
    small = torch.log1p(-label.exp().clamp(max=0.5))
    return torch.where(label.detach().exp() < 0.5, small, others_normaliser - normaliser)
