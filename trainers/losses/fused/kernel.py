"""Which configs a GPU computes with one kernel, and the kernel's arguments. Triton is imported only
then."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from trainers.losses.passes import BatchSettings
from trainers.losses.policies import POLICY_FUNCTIONS, PolicyInput, scaled_weight
from trainers.losses.soft_term import SoftTerm
from trainers.trial.config import TrialConfig
from trainers.trial.traits import Policy

# The divergences that the kernel knows are one family: each row's beta of the generalized JSD, from
# its parameters.
WITH_KERNEL: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "forward_kl": lambda parameters: 0.0,
    "reverse_kl": lambda parameters: 1.0,
    "generalized_jsd": lambda parameters: float(parameters["beta"]),
}
# The policies whose temperature is a number or follows the largest logit.
POLICIES_WITH_KERNEL = {
    Policy.NONE,
    Policy.FIXED,
    Policy.FIXED_TEACHER,
    Policy.CIST,
    Policy.DYNAMIC,
    Policy.TOKEN_ADAPTIVE,
}


def has_kernel(config: TrialConfig, hidden: Tensor) -> bool:
    """Returns whether the kernel computes this config on the device of `hidden`.

    It works in float32, so float64 goes another way; a weight by the power sum is a further pass
    over the teacher's logits, which the kernel does not make, and forward KL beside a divergence is
    a second one.
    """
    return (
        hidden.is_cuda
        and hidden.dtype != torch.float64
        and config.divergence in WITH_KERNEL
        and config.policy in POLICIES_WITH_KERNEL
        and not config.weight_by_power_sum
        and not config.forward_weight
        and has_triton()
    )


@cache
def has_triton() -> bool:
    """Returns whether Triton is installed, as it is with torch's CUDA builds."""
    return importlib.util.find_spec("triton") is not None


@torch.no_grad()
def by_kernel(
    term: SoftTerm, products: Tensor, teacher: Tensor, labels: Tensor, settings: BatchSettings
) -> tuple[Tensor, Tensor]:
    """Returns the sums of hard and soft loss of logits `products` and `teacher` [C, V], and
    overwrites `products` with the loss's gradient."""
    from trainers.losses.fused import row_kernel

    config = term.config
    given = PolicyInput(config, products, teacher, term.vocab_size, settings.temperature)
    found = POLICY_FUNCTIONS[config.policy](given)
    # The kernel reads a temperature for each row; one for all is spread out.
    ones = torch.ones(products.shape[0], device=products.device)
    tau_t, tau_s = found.tau_t * ones, found.tau_s * ones
    weight = scaled_weight(config, teacher, replace(found, tau_t=tau_t, tau_s=tau_s))
    if settings.kept is not None:
        weight = weight * settings.kept
    beta = WITH_KERNEL[config.divergence](term.parameters)
    share, of_slope = _factors(beta, bool(term.parameters.get("unit_curvature")))
    slope = found.slope
    work = row_kernel.RowWork(
        tau_s=tau_s,
        tau_t=tau_t,
        coefficient=config.soft_weight * of_slope * weight / tau_s,
        peak=None if slope is None else slope.peak,
        place=None if slope is None else slope.place,
        kind=row_kernel.kind_of(beta),
        beta=beta,
        hard_weight=config.hard_weight,
    )
    hard, soft = row_kernel.values_and_gradient(products, teacher, labels, work)
    return hard.sum(), share * (weight * soft).sum()


def _factors(beta: float, unit_curvature: bool) -> tuple[float, float]:
    """Returns the factors on the kernel's value and on its slope: its JSD has neither the
    curvature's share nor the gradient's 1 - beta."""
    if beta in (0.0, 1.0):  # the KLs, which need none
        return 1.0, 1.0
    share = 1 / (beta * (1 - beta)) if unit_curvature else 1.0
    return share, share * (1 - beta)
