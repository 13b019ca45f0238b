"""A divergence of the user's own: `module:function`, imported by its name."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

from torch import Tensor

from trainers.nearest import nearest
from trainers.trial.catalogue import DIVERGENCES, OPTIONS, POLICIES
from trainers.trial.config import TrialConfig
from trainers.trial.rules import parameter_owners

LOGITS = ("student_logits", "teacher_logits")


def import_from(folder: Path) -> None:
    """Makes imports find the modules in `folder` before others of the same names, even if one of
    those was imported already."""
    place = str(folder.absolute())
    if place in sys.path:
        sys.path.remove(place)
    sys.path.insert(0, place)
    importlib.invalidate_caches()
    # A standing worker may have imported another sweep's module of the same name: forgotten here,
    # it is imported anew. Names of the standard library are never a user's.
    own = {path.stem for path in folder.iterdir()} - sys.stdlib_module_names
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in own and not is_below(module, folder):
            del sys.modules[name]


def is_below(module: ModuleType, folder: Path) -> bool:
    """Returns whether the module's file is below `folder`."""
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder.absolute())


def load(name: str) -> Callable[..., Tensor]:
    """Returns the function that `module:function` names, importable from the working directory or
    the installation. Raises `ValueError` when there is none, or it does not take the two logits."""
    module_name, _, function_name = name.partition(":")
    module = _import(name, module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ValueError(_no_function(name, module, function_name))
    signature = signature_of(function)
    if signature is None:
        raise ValueError(
            f"divergence '{name}' must be a Python function with the keywords student_logits and "
            f"teacher_logits, but got {function!r}. Write one around it"
        )
    accepted = signature.parameters.values()
    keywords = {one.name for one in accepted if one.kind != inspect.Parameter.POSITIONAL_ONLY}
    missing = [logits for logits in LOGITS if logits not in keywords]
    if missing:
        raise ValueError(
            f"divergence '{name}' must take the keywords student_logits and teacher_logits, "
            f"but got a function without {' and '.join(missing)}"
        )
    return function  # type: ignore[no-any-return]


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """Returns the function's signature, or None if it has none, as many that are not written in
    Python."""
    try:
        return inspect.signature(function)
    except ValueError:
        return None


def own_parameters(config: TrialConfig) -> dict[str, Any]:
    """Returns the parameters of the catalogue that the config sets for its own divergence. Raises
    `ValueError` for one that the function does not take, or a parameter without any value."""
    function = load(config.divergence)
    given = given_parameters(config, function)
    check_parameters(config.divergence, function, given)
    return given


def given_parameters(config: TrialConfig, function: Callable[..., Tensor]) -> dict[str, Any]:
    """Returns the parameters of divergences that the config sets; of those that any soft loss may
    have (`OPTIONS`) the ones that the function takes itself."""
    values = {name: getattr(config, name) for name in known_parameters()}
    given = {name: value for name, value in values.items() if value is not None}
    of_options = {name for option in OPTIONS.values() for name in option.parameters}
    for name in of_options.intersection(strangers(function, given)):
        del given[name]
    return given


def known_parameters() -> list[str]:
    """Returns the names that a parameter of the user's own divergence can have: those of the
    shipped divergences, as a config has no other fields."""
    return [name for name, owners in parameter_owners().items() if set(owners) & set(DIVERGENCES)]


def strangers(function: Callable[..., Tensor], given: Mapping[str, Any]) -> list[str]:
    """Returns the given parameters that the function does not take."""
    accepted = inspect.signature(function).parameters
    is_open_to_all = any(one.kind == one.VAR_KEYWORD for one in accepted.values())
    return [] if is_open_to_all else sorted(set(given) - set(accepted))


def check_parameters(name: str, function: Callable[..., Tensor], given: Mapping[str, Any]) -> None:
    """Raises `ValueError` for a given parameter that no config has or the function does not take,
    and for a parameter of the function that has neither a default nor a value."""
    known = known_parameters()
    for each, value in given.items():
        if each not in known:
            raise ValueError(
                f"{each} must be a parameter that a sweep can set, but got {each}={value}."
                f"{_policy_hint(each) or nearest(each, known)} Known: {', '.join(known)}"
            )
    for each in strangers(function, given):
        raise ValueError(
            f"{each} must be a parameter of divergence '{name}', but got {each}={given[each]}. "
            "Leave it out"
        )
    for wanted, parameter in inspect.signature(function).parameters.items():
        is_open = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        is_given = is_open or wanted in LOGITS or wanted in given
        if is_given or parameter.default is not parameter.empty:
            continue
        hint = _policy_hint(wanted)
        if not hint and wanted not in known:
            hint = f" A sweep cannot set it; it can set: {', '.join(known)}"
        raise ValueError(
            f"divergence '{name}': {wanted} must have a default or be set, but got none.{hint}"
        )


def _policy_hint(name: str) -> str:
    if not any(name in traits.parameters for traits in POLICIES.values()):
        return ""
    return (
        f" {name} belongs to the policy, and a policy's parameters are not passed to divergences: "
        "the logits arrive softened. Take it out of the function."
    )


def _import(name: str, module_name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's module may raise anything, and may exit
        got = f"{type(error).__name__}: {error}"
        rule = f"divergence '{name}': module '{module_name}' must be importable, but"
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent is not None and f"{module_name}.".startswith(f"{absent}."):
            raise ValueError(
                f"{rule} got {got}. Put its folder on PYTHONPATH, or start in it"
            ) from error
        where = _where(error)
        if absent is not None:
            raise ValueError(
                f"{rule} {where} imports '{absent}', which is not installed. Install it, or put "
                "its folder on PYTHONPATH"
            ) from error
        raise ValueError(f"{rule} {where} got {got}. Mend the module") from error


def _where(error: BaseException) -> str:
    """Returns file and line of the user's code that raised."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frames = [one for one in extract_tb(error.__traceback__) if "importlib" not in one.filename]
    last = frames[-1]
    return f"{last.filename}, line {last.lineno}"


def _no_function(name: str, module: ModuleType, function_name: str) -> str:
    known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
    place = getattr(module, "__file__", None) or "Python itself"
    there = hasattr(module, function_name)
    got = repr(getattr(module, function_name)) if there else "no such name in it"
    return (
        f"divergence '{name}': '{function_name}' must be a function of '{module.__name__}' (found "
        f"in {place}), but got {got}.{nearest(function_name, known)} If that file is not yours, "
        "rename your module: another one of its name comes first"
    )
