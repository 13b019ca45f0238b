"""Value and gradient of the most used divergences written out, in place where that is safe.

Autograd walks the vocabulary about twice as often for the same numbers; every other row goes that
way. A function takes softened logits [C, V] (the teacher's may be overwritten) and a coefficient
[C, 1], and
returns the values [C] and coefficient times the gradient with respect to the student's softened logits.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

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


WRITTEN: dict[str, Written] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "generalized_jsd": generalized_jsd,
}
