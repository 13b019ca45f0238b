"""A divergence of the user's own: `module:function`, found by importing it."""

import importlib
import inspect
from collections.abc import Callable, Mapping
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
    except Exception as error:  # the user's module may raise anything
        is_absent = isinstance(error, ModuleNotFoundError)
        remedy = "Put its folder on PYTHONPATH, or start from where it lies"
        raise ValueError(
            f"divergence '{name}': module '{module_name}' must be importable, but got "
            f"{type(error).__name__}: {error}. {remedy if is_absent else 'Mend the module'}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ValueError(
            f"divergence '{name}': '{function_name}' must be a function of '{module_name}', "
            f"but got {function!r}.{nearest(function_name, known)}"
        )
    accepted = inspect.signature(function).parameters.values()
    keywords = {one.name for one in accepted if one.kind != inspect.Parameter.POSITIONAL_ONLY}
    missing = [logits for logits in LOGITS if logits not in keywords]
    if missing:
        raise ValueError(
            f"divergence '{name}' must take the keywords student_logits and teacher_logits, "
            f"but got a function without {' and '.join(missing)}"
        )
    return function  # type: ignore[no-any-return]


def own_parameters(config: TrialConfig) -> dict[str, Any]:
    """Returns the parameters of the catalogue that the config sets for its own divergence. Raises
    `ValueError` for one that the function does not take, or a parameter without any value."""
    of_policy = POLICIES[config.policy].parameters
    given = {
        name: getattr(config, name)
        for name in parameter_owners()
        if name not in of_policy and getattr(config, name) is not None
    }
    check_parameters(config.divergence, load(config.divergence), given)
    return given


def check_parameters(name: str, function: Callable[..., Tensor], given: Mapping[str, Any]) -> None:
    """Raises `ValueError` for a given parameter that the function does not take, or one of its own
    without any value."""
    accepted = inspect.signature(function).parameters
    is_open_to_all = any(one.kind == one.VAR_KEYWORD for one in accepted.values())
    strangers = sorted(set(given) - set(accepted))
    if strangers and not is_open_to_all:
        raise ValueError(
            f"{strangers[0]} must be a parameter of divergence '{name}', but got "
            f"{strangers[0]}={given[strangers[0]]}. Leave it out"
        )
    for wanted, parameter in accepted.items():
        is_open = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        is_given = is_open or wanted in LOGITS or wanted in given
        if not is_given and parameter.default is parameter.empty:
            raise ValueError(
                f"divergence '{name}': {wanted} must have a default or be set, but got none"
            )
