"""Divergences to a mixture of teacher and student that lies on a curve between them.

Signature, units and ranges as in `divergences.py`: softened logits [N, V] in, [N] out.
"""

import torch
from torch import Tensor

from trainers.losses.divergences import kl, log_probabilities
from trainers.losses.weighted import alpha_beta_of
from trainers.trial.traits import MixtureDivergence, MixtureOrder

# The alpha-beta divergence that AMiD's code has: its alpha and beta.
INNER_ALPHA, INNER_BETA = 0.2, 0.7


def alpha_mixture(
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    alpha: float = 0.5,
    mixture_weight: float = 0.5,
    mixture_order: MixtureOrder | str = MixtureOrder.TEACHER_MIXTURE,
    mixture_divergence: MixtureDivergence | str = MixtureDivergence.KL,
) -> Tensor:
    """D(p‖r), [N], or by `mixture_order` D(q‖r), D(r‖p), D(r‖q), with the alpha-mixture
    r ~ (w p^s + (1 - w) q^s)^(1/s), s = (1 - alpha) / 2, w = mixture_weight.

    alpha -1 is the arithmetic mean, so that D(p‖r) is skew forward KL with its alpha w; 1 the
    geometric one, 3 the harmonic one. The gradient goes through r too. D is the KL or the
    alpha-beta divergence with 0.2 and 0.7. Shin et al. 2025 (AMiD), whose code takes the geometric
    mean wherever alpha >= 1.
    """
    student, teacher = log_probabilities(student_logits, teacher_logits)
    mixture = torch.log_softmax(log_mixture(student, teacher, alpha, mixture_weight), dim=-1)
    order = MixtureOrder(mixture_order)
    own = student if order.has_student else teacher
    first, second = (mixture, own) if order.mixture_first else (own, mixture)
    if mixture_divergence == MixtureDivergence.KL:
        return kl(first, second)
    return alpha_beta_of(first, second, INNER_ALPHA, INNER_BETA)


def log_mixture(student: Tensor, teacher: Tensor, alpha: float, weight: float) -> Tensor:
    """Returns log (weight p^s + (1 - weight) q^s)^(1/s) [N, V] of log q and log p, not normalised,
    s = (1 - alpha) / 2: to the last digits however near alpha is to 1, where s is 0."""
    power, gap = (1 - alpha) / 2, student - teacher
    if power == 0.0:
        return teacher + (1 - weight) * gap
    # log(w + (1 - w) e^x), x = s (log q - log p), has no digits left of a small x. log1p and expm1
    # of numbers up to 0 keep them, and do not overflow: for x above 0 with x in front. The clamps
    # are for the branch that `where` drops: an infinite one would make its gradient NaN.
    rise = power * gap
    below = torch.log1p((1 - weight) * torch.expm1(rise.clamp_max(0)))
    above = rise + torch.log1p(weight * torch.expm1((-rise).clamp_max(0)))
    return teacher + torch.where(rise <= 0, below, above) / power
