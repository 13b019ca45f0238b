"""Which values of a trial may not stand together, whatever the catalogue says of each; no torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainers.trial.config import TrialConfig


def check_values(config: "TrialConfig") -> None:
    """Raises `ValueError` that names the fields, the rule and what came instead."""
    _check_order(config)
    _check_something_is_learnt(config)
    if config.steps is not None and config.epochs is not None:
        raise ValueError(
            f"give steps or epochs, not both, but got steps={config.steps}, epochs={config.epochs}"
        )
    if config.max_prompt_tokens >= config.max_tokens:
        raise ValueError(
            "max_prompt_tokens < max_tokens must hold, or no response fits, "
            f"but got max_prompt_tokens={config.max_prompt_tokens}, max_tokens={config.max_tokens}"
        )


def _check_order(config: "TrialConfig") -> None:
    for low, high in (("tau_min", "tau_max"), ("mix_start", "mix_end")):
        least, most = getattr(config, low), getattr(config, high)
        if least is not None and most is not None and least > most:
            raise ValueError(f"{low} <= {high} must hold, but got {low}={least}, {high}={most}")


def _check_something_is_learnt(config: "TrialConfig") -> None:
    """A loss, or a divergence, of which every part has the weight 0 teaches nothing."""
    if config.hard_weight == config.soft_weight == 0:
        raise ValueError(
            "hard_weight + soft_weight > 0 must hold, or nothing is learnt, but got both 0. "
            "Use a positive one"
        )
    if config.divergence == "decoupled" and config.target_weight == config.non_target_weight == 0:
        raise ValueError(
            "target_weight + non_target_weight > 0 must hold, or the teacher has no part in the "
            "loss, but got both 0. Use a positive one"
        )
    if config.divergence == "interpolated" and config.mix_end == 0:
        raise ValueError(
            "mix_end > 0 must hold, or the target never moves to the teacher, but got mix_end=0. "
            "Use a positive one"
        )
