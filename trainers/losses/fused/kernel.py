"""Which rows a GPU does in one kernel, and what the kernel is told. Triton is loaded only then."""

import importlib.util
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from trainers.losses.passes import Shared
from trainers.losses.policies import POLICIES, PolicyInput, scaled_weight
from trainers.losses.soft_term import SoftTerm
from trainers.trial.catalogue import Policy
from trainers.trial.config import TrialConfig

DIVERGENCES = {"forward_kl", "reverse_kl", "generalized_jsd"}
# Those whose temperature is a number or follows the largest logit.
TEMPERATURES = {
    Policy.NONE,
    Policy.FIXED,
    Policy.FIXED_TEACHER,
    Policy.CIST,
    Policy.DYNAMIC,
    Policy.TOKEN_ADAPTIVE,
}


def has_kernel(config: TrialConfig, hidden: Tensor) -> bool:
    """Returns whether the kernel serves this config where `hidden` lies."""
    return (
        hidden.is_cuda
        and hidden.dtype != torch.float64
        and config.divergence in DIVERGENCES
        and config.policy in TEMPERATURES
        and not config.weight_by_power_sum
        and has_triton()
    )


@cache
def has_triton() -> bool:
    """Returns whether Triton is here, as it is with torch's CUDA builds."""
    return importlib.util.find_spec("triton") is not None


@torch.no_grad()
def by_kernel(
    term: SoftTerm, products: Tensor, teacher: Tensor, labels: Tensor, shared: Shared
) -> tuple[Tensor, Tensor]:
    """Returns the sums of hard and soft loss of logits `products` and `teacher` [C, V], and puts
    the loss's gradient in the place of products."""
    from trainers.losses.fused import row_kernel

    config = term.config
    given = PolicyInput(config, products, teacher, term.vocab_size, shared.temperature)
    found = POLICIES[config.policy](given)
    ones = torch.ones(products.shape[0], device=products.device)
    tau_t, tau_s = found.tau_t * ones, found.tau_s * ones
    weight = scaled_weight(config, teacher, tau_t, tau_s)
    kind, beta, share, of_slope = _kind(config.divergence, term.parameters)
    slope = found.slope
    work = row_kernel.RowWork(
        tau_s=tau_s,
        tau_t=tau_t,
        coefficient=config.soft_weight * of_slope * weight / tau_s,
        peak=None if slope is None else slope.peak,
        place=None if slope is None else slope.place,
        kind=kind,
        beta=beta,
        hard_weight=config.hard_weight,
    )
    hard, soft = row_kernel.values_and_gradient(products, teacher, labels, work)
    return hard.sum(), share * (weight * soft).sum()


def _kind(divergence: str, parameters: Mapping[str, Any]) -> tuple[int, float, float, float]:
    """Returns the kernel's kind, its beta, and the factors on its value and on its slope."""
    from trainers.losses.fused.row_kernel import FORWARD_KL, GENERALIZED_JSD, REVERSE_KL

    beta = parameters.get("beta", 0.0 if divergence == "forward_kl" else 1.0)
    if beta in (0.0, 1.0):
        return (REVERSE_KL if beta else FORWARD_KL), beta, 1.0, 1.0
    share = 1 / (beta * (1 - beta)) if parameters["unit_curvature"] else 1.0
    return GENERALIZED_JSD, beta, share, share * (1 - beta)
