"""Closed form of the divergence to an alpha-mixture; see `closed_form.py`."""

import math

import torch
from torch import Tensor

from trainers.losses.fused.closed_parts import DivergenceInput, row_sum, through_softmax
from trainers.losses.mixtures import INNER_ALPHA, INNER_BETA
from trainers.trial.traits import MixtureDivergence, MixtureOrder

Slopes = tuple[Tensor, Tensor]


def alpha_mixture(given: DivergenceInput, coefficient: Tensor) -> tuple[Tensor, Tensor]:
    """D of one side and the mixture r. With g = dD/d(log r) and w = d log r / d log q before r's
    normaliser, the part by log q is w (g - r Σ g), plus D's own where q is the side."""
    order = MixtureOrder(given.parameters["mixture_order"])
    log_q, log_p = given.log_probabilities()
    log_r, share = _mixed(log_q, log_p, given)
    q, r = torch.softmax(given.student, dim=-1), log_r.exp()
    own = log_q if order.has_student else log_p
    first, second = (log_r, own) if order.mixture_first else (own, log_r)
    if given.parameters["mixture_divergence"] == MixtureDivergence.KL:
        value, slopes = _kl(first, second, r if order.mixture_first else own.exp())
    else:
        value, slopes = _alpha_beta(first, second)
    by_r, by_own = slopes if order.mixture_first else slopes[::-1]
    by_log_q = by_r.addcmul_(r, -row_sum(by_r)).mul_(share)
    if order.has_student:
        by_log_q.add_(by_own)
    return value, through_softmax(by_log_q, q, coefficient)


def _mixed(log_q: Tensor, log_p: Tensor, given: DivergenceInput) -> tuple[Tensor, Tensor]:
    """Returns log r, and the student's share w = (1 - m) q^s / (m p^s + (1 - m) q^s) in it, m =
    mixture_weight; both [C, V]."""
    power, weight = (1 - given.parameters["alpha"]) / 2, given.parameters["mixture_weight"]
    rise = (log_q - log_p).mul_(power)  # x = s log(q/p)
    if power == 0.0:
        return torch.log_softmax(torch.lerp(log_p, log_q, 1 - weight), dim=-1), rise.add_(
            1 - weight
        )
    # As `mixtures.log_mixture`, whose two branches differ by which of the weights is the smaller
    # term's: m for x above 0, else 1 - m. At x = 0 it does not matter. A `where` of two numbers
    # would take as long as all the rest.
    smaller = rise.sign().mul_(weight - 0.5).add_(0.5)
    smaller.mul_(rise.abs().neg_().expm1_()).log1p_().add_(rise.clamp_min(0))
    log_r = torch.log_softmax(smaller.mul_(1 / power).add_(log_p), dim=-1)
    return log_r, rise.add_(math.log1p(-weight) - math.log(weight)).sigmoid_()


def _kl(first: Tensor, second: Tensor, a: Tensor) -> tuple[Tensor, Slopes]:
    """KL(a‖b) [C] of a and the logs of both, and its slopes by log a and log b. Of the first a
    itself is left out: the normaliser takes it away."""
    terms = (first - second).mul_(a)
    return terms.sum(-1), (terms, -a)


def _alpha_beta(first: Tensor, second: Tensor) -> tuple[Tensor, Slopes]:
    """The same of the alpha-beta divergence, s = alpha + beta: (a^s - a^alpha b^beta) / beta and
    (b^s - a^alpha b^beta) / alpha."""
    alpha, beta, power = INNER_ALPHA, INNER_BETA, INNER_ALPHA + INNER_BETA
    both = torch.mul(first, alpha).add_(second, alpha=beta).exp_()
    of_first, of_second = (torch.mul(side, power).exp_() for side in (first, second))
    ends = (alpha * of_first.sum(-1) + beta * of_second.sum(-1)) / power
    value = (ends - both.sum(-1)) / (alpha * beta)
    return value, (of_first.sub_(both).div_(beta), of_second.sub_(both).div_(alpha))
