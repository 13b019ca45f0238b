"""A divergence of the user's own: `module:function`, found by importing it."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from trainers.catalogue import POLICIES
from trainers.config import TrialConfig, nearest, parameter_owners

LOGITS = ("student_logits", "teacher_logits")


def load(name: str) -> Callable[..., Tensor]:
    """Returns the function that `module:function` names, importable from the working directory or
    the installation. Raises `ValueError` when there is none, or it does not take the two logits."""
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"divergence '{name}': module '{module_name}' must be importable, but got: {error}. "
            "Put its folder on PYTHONPATH, or start from where it lies"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ValueError(
            f"divergence '{name}': '{function_name}' must be a function of '{module_name}', "
            f"but got {function!r}.{nearest(function_name, known)}"
        )
    missing = [logits for logits in LOGITS if logits not in inspect.signature(function).parameters]
    if missing:
        raise ValueError(
            f"divergence '{name}' must take the keywords student_logits and teacher_logits, "
            f"but got a function without {' and '.join(missing)}"
        )
    return function  # type: ignore[no-any-return]


def own_parameters(config: TrialConfig) -> dict[str, Any]:
    """Returns the parameters of the catalogue that the config sets for its own divergence. Raises
    `ValueError` for one that the function does not take, or a parameter without any value."""
    accepted = inspect.signature(load(config.divergence)).parameters
    of_policy = POLICIES[config.policy].parameters
    given = {
        name: getattr(config, name)
        for name in parameter_owners()
        if name not in of_policy and getattr(config, name) is not None
    }
    strangers = sorted(set(given) - set(accepted))
    if strangers:
        raise ValueError(
            f"{strangers[0]} must be a parameter of divergence '{config.divergence}', but got "
            f"{strangers[0]}={given[strangers[0]]}. Leave it out"
        )
    for name, parameter in accepted.items():
        if name not in LOGITS and name not in given and parameter.default is parameter.empty:
            raise ValueError(
                f"divergence '{config.divergence}': {name} must have a default or be set, "
                "but got none"
            )
    return given
