"""Value and gradient of the most used divergences written out, in place where that is safe.

Autograd walks the vocabulary about twice as often for the same numbers; every other row goes that
way. A function takes softened logits [C, V] (the teacher's may be overwritten) and a coefficient
[C, 1], and returns the values [C] and coefficient times the gradient with respect to the student's
softened logits.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers.losses.weighted import head_share

Written = Callable[[Tensor, Tensor, Tensor, Mapping[str, Any]], tuple[Tensor, Tensor]]


def probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns softmax(logits) [C, V] and the rows' log of the sum of exponentials [C, 1]."""
    softmax = torch.softmax(logits, dim=-1)
    # Known from the largest entry alone; a second walk of exponentials is spared.
    normaliser = logits.amax(-1, keepdim=True) - softmax.amax(-1, keepdim=True).log()
    return softmax, normaliser


def forward_kl(
    student: Tensor, teacher: Tensor, coefficient: Tensor, parameters: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """KL(p‖q); gradient q - p."""
    q, q_normaliser = probabilities(student)
    p, p_normaliser = probabilities(teacher)
    gap = teacher.sub_(student).add_(q_normaliser - p_normaliser)
    value = torch.linalg.vecdot(p, gap)
    return value, q.sub_(p).mul_(coefficient)


def reverse_kl(
    student: Tensor, teacher: Tensor, coefficient: Tensor, parameters: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """KL(q‖p); gradient q (log(q/p) - KL)."""
    q, q_normaliser = probabilities(student)
    p_normaliser = torch.logsumexp(teacher, dim=-1, keepdim=True)
    gap = teacher.sub_(student).sub_(p_normaliser - q_normaliser).neg_()
    value = torch.linalg.vecdot(q, gap)
    return value, gap.sub_(value.unsqueeze(-1)).mul_(q).mul_(coefficient)


def generalized_jsd(
    student: Tensor, teacher: Tensor, coefficient: Tensor, parameters: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """beta KL(p‖m) + (1 - beta) KL(q‖m); gradient (1 - beta) q (log(q/m) - KL(q‖m))."""
    beta = parameters["beta"]
    if beta in (0.0, 1.0):
        end = forward_kl if beta == 0.0 else reverse_kl
        return end(student, teacher, coefficient, parameters)
    share = 1 / (beta * (1 - beta)) if parameters["unit_curvature"] else 1.0
    q, q_normaliser = probabilities(student)
    p, p_normaliser = probabilities(teacher)
    tiny = torch.finfo(q.dtype).tiny  # where both underflow nothing is added, and log stays finite
    mixture = torch.lerp(q, p, beta).clamp_(min=tiny).log_()
    of_teacher = torch.linalg.vecdot(p, teacher.sub_(p_normaliser).sub_(mixture))
    gap = (student - q_normaliser).sub_(mixture)
    of_student = torch.linalg.vecdot(q, gap)
    slope = gap.sub_(of_student.unsqueeze(-1)).mul_(q).mul_(coefficient * (share * (1 - beta)))
    return share * (beta * of_teacher + (1 - beta) * of_student), slope


def jeffreys(
    student: Tensor, teacher: Tensor, coefficient: Tensor, parameters: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """(1 - weight) KL(p‖q) + weight KL(q‖p)."""
    sides = _Sides.of(student, teacher)
    weight = torch.full_like(coefficient, parameters["weight"])
    return _both_kls(sides, 1 - weight, weight, coefficient)


def entropy_switched(
    student: Tensor, teacher: Tensor, coefficient: Tensor, parameters: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """KL(p‖q) and KL(q‖p), the one of the side with more entropy times entropy_weight."""
    sides = _Sides.of(student, teacher)
    surplus = (sides.q * sides.log_q).sum(-1, keepdim=True)
    surplus -= (sides.p * sides.log_p).sum(-1, keepdim=True)
    weight = parameters["entropy_weight"]
    forward, reverse = (torch.where(side > 0, weight, 1.0) for side in (surplus, -surplus))
    return _both_kls(sides, forward, reverse, coefficient)


def adaptive_kl(
    student: Tensor, teacher: Tensor, coefficient: Tensor, parameters: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """KL(p‖q) and KL(q‖p), weighted by the gaps on the teacher's head and tail."""
    if parameters["head_mass"] >= 1.0:
        return forward_kl(student, teacher, coefficient, parameters)
    sides = _Sides.of(student, teacher)
    share = head_share(sides.q, sides.log_p, sides.p, parameters["head_mass"])
    return _both_kls(sides, share, 1 - share, coefficient)


def token_wise(
    student: Tensor, teacher: Tensor, coefficient: Tensor, parameters: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Σ [w p log(p/q) + (1 - w) q log(q/p)], w = p/(p+q) constant; by log q: (1-w) q (d+1) - w
    p."""
    sides = _Sides.of(student, teacher)
    gap = sides.log_q.sub_(sides.log_p)
    share = torch.sigmoid(-gap)
    forward = sides.p.mul_(share)
    reverse = share.neg_().add_(1).mul_(sides.q)
    by_log_q = reverse - forward
    value = torch.linalg.vecdot(by_log_q, gap)
    by_log_q.add_(reverse.mul_(gap))
    return value, _through_softmax(by_log_q, sides.q, coefficient)


def skew_forward_kl(
    student: Tensor, teacher: Tensor, coefficient: Tensor, parameters: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """KL(p‖m), m = alpha p + (1 - alpha) q; gradient (1 - alpha) q (Σ q p/m - p/m)."""
    alpha = parameters["alpha"]
    if alpha == 0.0:
        return forward_kl(student, teacher, coefficient, parameters)
    sides = _Sides.of(student, teacher)
    mixture = torch.lerp(sides.q, sides.p, alpha).clamp_(min=torch.finfo(sides.q.dtype).tiny)
    value = torch.linalg.vecdot(sides.p, sides.log_p.sub_(mixture.log()))
    quotient = sides.p.div_(mixture)
    mean = torch.linalg.vecdot(sides.q, quotient).unsqueeze(-1)
    return value, quotient.sub_(mean).mul_(sides.q).mul_(coefficient * (alpha - 1))


def skew_reverse_kl(
    student: Tensor, teacher: Tensor, coefficient: Tensor, parameters: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """KL(q‖m), m = alpha q + (1 - alpha) p; gradient q (r - Σ q r), r = log(q/m) - alpha q/m, its
    last part left out where the mixture is constant."""
    alpha = parameters["alpha"]
    if alpha == 0.0:
        return reverse_kl(student, teacher, coefficient, parameters)
    sides = _Sides.of(student, teacher)
    mixture = torch.lerp(sides.p, sides.q, alpha).clamp_(min=torch.finfo(sides.q.dtype).tiny)
    rate = sides.log_q.sub_(mixture.log())
    value = torch.linalg.vecdot(sides.q, rate)
    if not parameters["detach_mixture"]:
        rate.sub_((sides.q / mixture).mul_(alpha))
    mean = torch.linalg.vecdot(sides.q, rate).unsqueeze(-1)
    return value, rate.sub_(mean).mul_(sides.q).mul_(coefficient)


WRITTEN: dict[str, Written] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "generalized_jsd": generalized_jsd,
    "jeffreys": jeffreys,
    "entropy_switched": entropy_switched,
    "adaptive_kl": adaptive_kl,
    "token_wise": token_wise,
    "skew_forward_kl": skew_forward_kl,
    "skew_reverse_kl": skew_reverse_kl,
}


@dataclass(frozen=True)
class _Sides:
    """Probabilities of student and teacher and their logs, all [C, V] and free to be
    overwritten."""

    q: Tensor
    p: Tensor
    log_q: Tensor
    log_p: Tensor

    @classmethod
    def of(cls, student: Tensor, teacher: Tensor) -> "_Sides":
        """Returns both sides of softened logits; the teacher's are overwritten."""
        q, q_normaliser = probabilities(student)
        p, p_normaliser = probabilities(teacher)
        return cls(q, p, student - q_normaliser, teacher.sub_(p_normaliser))


def _both_kls(
    sides: _Sides, forward: Tensor, reverse: Tensor, coefficient: Tensor
) -> tuple[Tensor, Tensor]:
    """forward KL(p‖q) + reverse KL(q‖p), factors [C, 1]; gradient forward (q - p) + reverse q
    (log(q/p)
    - KL(q‖p))."""
    gap = sides.log_q.sub_(sides.log_p)
    of_student = torch.linalg.vecdot(sides.q, gap).unsqueeze(-1)
    of_teacher = -torch.linalg.vecdot(sides.p, gap).unsqueeze(-1)
    value = (forward * of_teacher + reverse * of_student).squeeze(-1)
    slope = gap.mul_(reverse).add_(forward - reverse * of_student).mul_(sides.q)
    return value, slope.sub_(sides.p.mul_(forward)).mul_(coefficient)


def _through_softmax(by_log_q: Tensor, q: Tensor, coefficient: Tensor) -> Tensor:
    """Returns the gradient by logits, times coefficient, of that by log q (overwritten)."""
    total = by_log_q.sum(-1, keepdim=True)
    return by_log_q.sub_(q * total).mul_(coefficient)
