"""Divergences between a teacher's distribution p and a student's q, one number a position, in nats.

Every function takes softened logits `student_logits` and `teacher_logits` [N, V] of any float type
and returns [N] in float32 (float64 stays float64). p = softmax(teacher_logits), q =
softmax(student_logits); sums run over the vocabulary. No gradient reaches the teacher. Scaling
(tau²), mask and normalisation are not theirs.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def in_float(logits: Tensor) -> Tensor:
    """Returns `logits` in float32, or unchanged when they are float64."""
    return logits if logits.dtype == torch.float64 else logits.float()


def log_probabilities(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns log q and log p [N, V], the latter cut from the graph."""
    student = torch.log_softmax(in_float(student_logits), dim=-1)
    return student, torch.log_softmax(in_float(teacher_logits.detach()), dim=-1)


def label_log_probabilities(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor
) -> Tensor:
    """Returns log q and log p of the labels at temperature 1, [C, 2]."""
    column = labels.unsqueeze(-1)
    sides = log_probabilities(student_logits, teacher_logits)
    return torch.cat([side.gather(-1, column) for side in sides], dim=-1)


def kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    """Returns KL(a‖b) [N] of log-probabilities [N, V]."""
    return (log_a.exp() * (log_a - log_b)).sum(-1)


def both_kls(
    student: Tensor, teacher: Tensor, forward: Tensor | float, reverse: Tensor | float
) -> Tensor:
    """Returns forward * KL(p‖q) + reverse * KL(q‖p), [N], of log q and log p; factors [N, 1] or
    one."""
    return ((reverse * student.exp() - forward * teacher.exp()) * (student - teacher)).sum(-1)


def forward_kl(*, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(p‖q) = Σ p (log p - log q), [N].

    Hinton et al. 2015, who multiply it by tau²; TRL, Liger, KDFlow and DSKD do not. DistiLLM,
    MiniLLM's baseline and torchtune report the cross-entropy -Σ p log q in its place: the same
    gradient, another value, which keeps the teacher's entropy.
    """
    student, teacher = log_probabilities(student_logits, teacher_logits)
    return kl(teacher, student)


def reverse_kl(*, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(q‖p) = Σ q (log q - log p), [N], with the gradient through both q's.

    Gu et al. 2024 (MiniLLM) optimise it over sequences by policy gradient; this is its exact form
    at one position.
    """
    student, teacher = log_probabilities(student_logits, teacher_logits)
    return kl(student, teacher)


def reverse_cross_entropy(*, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """-Σ q log p, [N]: reverse KL without the student's entropy, least where q has only the
    teacher's largest entry.

    Tu et al. 2020 (ENGINE), on text that the student writes; one of f-distill's peers.
    """
    student, teacher = log_probabilities(student_logits, teacher_logits)
    return -(student.exp() * teacher).sum(-1)


def jeffreys(*, student_logits: Tensor, teacher_logits: Tensor, weight: float = 0.5) -> Tensor:
    """(1 - weight) KL(p‖q) + weight KL(q‖p), [N]; weight 0 is forward KL, 1 is reverse KL.

    Jeffreys 1946, whose sum of both is twice weight ½. DistiLLM's symmetric KL has weight 0.9 in
    code, ABKD's and torchtune's 0.5.
    """
    student, teacher = log_probabilities(student_logits, teacher_logits)
    return both_kls(student, teacher, 1 - weight, weight)


def generalized_jsd(
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    beta: float = 0.5,
    unit_curvature: bool = False,
) -> Tensor:
    """beta KL(p‖m) + (1 - beta) KL(q‖m) with m = beta p + (1 - beta) q, [N].

    beta 0 returns KL(p‖q) and beta 1 KL(q‖p), as TRL does; the formula itself tends to 0 at both
    ends, so the function jumps there and a searched beta stays in [0.05, 0.95]. `unit_curvature`
    divides by beta (1 - beta): near p = q the value is then the KLs' for every beta.
    Agarwal et al. 2024 (GKD). DistiLLM's lam and KDFlow's beta count from the other end.
    """
    if beta in (0.0, 1.0):
        row = forward_kl if beta == 0.0 else reverse_kl
        return row(student_logits=student_logits, teacher_logits=teacher_logits)
    student, teacher = log_probabilities(student_logits, teacher_logits)
    mixture = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    value = beta * kl(teacher, mixture) + (1 - beta) * kl(student, mixture)
    return value / (beta * (1 - beta)) if unit_curvature else value


def skew_forward_kl(
    *, student_logits: Tensor, teacher_logits: Tensor, alpha: float = 0.1
) -> Tensor:
    """KL(p‖alpha p + (1 - alpha) q), [N]; alpha 0 is forward KL, towards 1 it vanishes.

    Ko et al. 2024 (DistiLLM), whose code reports the cross-entropy form. The mixture cannot be
    detached: the student is nowhere else.
    """
    student, teacher = log_probabilities(student_logits, teacher_logits)
    return kl(teacher, _mixture(teacher, student, alpha))


def skew_reverse_kl(
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    alpha: float = 0.1,
    detach_mixture: bool = False,
) -> Tensor:
    """KL(q‖alpha q + (1 - alpha) p), [N]; alpha 0 is reverse KL, towards 1 it vanishes.

    `detach_mixture` holds q constant in the mixture, as DistiLLM-2 does and DistiLLM does not: the
    same value with another gradient. Ko et al. 2024.
    """
    student, teacher = log_probabilities(student_logits, teacher_logits)
    inner = student.detach() if detach_mixture else student
    return kl(student, _mixture(inner, teacher, alpha))


def total_variation(*, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """½ Σ |p - q|, [N], in [0, 1].

    Wen et al. 2023. Its gradient shrinks like 1/tau, so its natural factor is tau; DistillKit
    multiplies it by tau².
    """
    student, teacher = log_probabilities(student_logits, teacher_logits)
    return 0.5 * (teacher.exp() - student.exp()).abs().sum(-1)


def _mixture(log_own: Tensor, log_other: Tensor, alpha: float) -> Tensor:
    """Returns log(alpha own + (1 - alpha) other)."""
    if alpha == 0.0:
        return log_other
    return torch.logaddexp(log_own + math.log(alpha), log_other + math.log1p(-alpha))


def mirrored_jsd(
    *, student_logits: Tensor, teacher_logits: Tensor, beta: float, unit_curvature: bool
) -> Tensor:
    """`generalized_jsd` with the parts of teacher and student exchanged."""
    return generalized_jsd(
        student_logits=student_logits,
        teacher_logits=teacher_logits,
        beta=1 - beta,
        unit_curvature=unit_curvature,
    )


# Of a D the divergence E with D(p, q) = E(q, p), which takes D's parameters: E's gradient by its
# student is D's by its teacher. Every divergence that goes with a learned temperature has one.
MIRRORS: dict[str, Callable[..., Tensor]] = {
    "forward_kl": reverse_kl,
    "reverse_kl": forward_kl,
    "generalized_jsd": mirrored_jsd,
}
