"""The table of divergences: name → function of softened logits [N, V] that returns [N]."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from trainers.losses.divergences import (
    forward_kl,
    generalized_jsd,
    jeffreys,
    reverse_kl,
    skew_forward_kl,
    skew_reverse_kl,
    total_variation,
)
from trainers.losses.weighted import (
    adaptive_kl,
    alpha_beta,
    centred_mse,
    concrete_score,
    entropy_switched,
    token_wise,
)

DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jeffreys": jeffreys,
    "generalized_jsd": generalized_jsd,
    "skew_forward_kl": skew_forward_kl,
    "skew_reverse_kl": skew_reverse_kl,
    "total_variation": total_variation,
    "adaptive_kl": adaptive_kl,
    "alpha_beta": alpha_beta,
    "token_wise": token_wise,
    "concrete_score": concrete_score,
    "centred_mse": centred_mse,
    "entropy_switched": entropy_switched,
}


def mirrored(name: str, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns name and parameters of the divergence E with D(p, q) = E(q, p), of a D that goes with
    `curriculum`: E's gradient by its student is D's by its teacher."""
    if name == "generalized_jsd":
        return name, {**parameters, "beta": 1 - parameters["beta"]}
    return {"forward_kl": "reverse_kl", "reverse_kl": "forward_kl"}[name], dict(parameters)
