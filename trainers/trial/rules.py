"""The rules between values of a trial, beside the range of each; no torch."""

from typing import TYPE_CHECKING

from trainers.trial.catalogue import DIVERGENCES, POLICIES, NotAllZero

if TYPE_CHECKING:
    from trainers.trial.config import TrialConfig

# Each parameter that another one limits, with that one.
LIMITED_BY: dict[str, str] = {
    name: parameter.at_most
    for table in (POLICIES, DIVERGENCES)
    for row in table.values()
    for name, parameter in row.parameters.items()
    if parameter.at_most
}


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
    """Whatever the divergence: one of the user's own may take these parameters too."""
    for low, high in LIMITED_BY.items():
        least, most = getattr(config, low), getattr(config, high)
        if least is not None and most is not None and least > most:
            raise ValueError(f"{low} <= {high} must hold, but got {low}={least}, {high}={most}")


def _check_something_is_learnt(config: "TrialConfig") -> None:
    """A loss, or a divergence, of which every part has the weight 0 teaches nothing."""
    _check_weights(config, NotAllZero(("hard_weight", "soft_weight"), "nothing is learnt"))
    row = DIVERGENCES.get(config.divergence)
    if row is not None and row.not_all_zero is not None:
        _check_weights(config, row.not_all_zero)


def _check_weights(config: "TrialConfig", rule: NotAllZero) -> None:
    names = rule.names
    if any(getattr(config, name) != 0 for name in names):
        return
    got = "both 0" if len(names) == 2 else ", ".join(f"{name}=0" for name in names)
    raise ValueError(
        f"{' + '.join(names)} > 0 must hold, or {rule.or_else}, but got {got}. Use a positive one"
    )
