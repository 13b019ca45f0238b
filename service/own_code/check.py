"""A divergence of the user's own: whether a sweep can call it, and whether it keeps the contract of
the shipped ones. Importing this module loads torch."""

import importlib
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from service.errors import SpecError
from service.own_code.sources import OwnModules, read_modules
from service.spec.document import SweepSpec
from trainers.losses.own.contract import check
from trainers.losses.own.load import (
    check_parameters,
    given_parameters,
    is_below,
    load,
    strangers,
)
from trainers.trial.config import TrialConfig
from trainers.trial.rules import CUSTOM_DIVERGENCE

COMMAND = "check-loss"
DRAWS = 50
Function = Callable[..., Any]


def check_own(name: str, folder: Path, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns a row for each check of `module:function` with these parameters, which is in `folder`
    or installed: `check`, `holds`, `required`, `detail`. Raises `SpecError` when there is no such
    function, it takes other parameters, or no spec could name it or them."""
    if not CUSTOM_DIVERGENCE.fullmatch(name):
        raise SpecError(
            f"{COMMAND}: must be written module:function, both as Python spells names, but got "
            f"'{name}'. For example my_losses:my_divergence."
        )
    with _importable_from(folder), _errors_at(COMMAND):
        function = load(name)
        check_parameters(name, function, parameters)
        return [vars(one) for one in check(function, parameters)]


def check_for_sweep(spec: SweepSpec, names: Sequence[str], folder: Path) -> OwnModules:
    """Returns the sources of the divergences `module:function` that the sweep names. Raises
    `SpecError` when one is neither in `folder` nor installed, does not take what the sweep sets
    for it, or breaks the contract."""
    with _importable_from(folder), _errors_at(_place_of("divergence", spec)):
        functions = {name: load(name) for name in names}
        _check_parameters(spec, functions)
        _check_contract(spec, functions)
        return read_modules(name.partition(":")[0] for name in names)


def _check_parameters(spec: SweepSpec, functions: Mapping[str, Function]) -> None:
    for config in map(spec.trial_config, spec.points()):
        if config.divergence not in functions:
            continue
        function = functions[config.divergence]
        given = given_parameters(config, function)
        names = strangers(function, given)
        with _errors_at(_place_of(names[0] if names else "divergence", spec)):
            check_parameters(config.divergence, function, given)


def _check_contract(spec: SweepSpec, functions: Mapping[str, Function]) -> None:
    """Holds each function to what is required, at one point of the search, from its inside where
    there is one: at the end of its range a parameter may well make a loss that is zero."""
    points: dict[str, dict[str, Any]] = {}
    for config in _configs(spec):
        if config.divergence in functions:
            given = given_parameters(config, functions[config.divergence])
            points.setdefault(config.divergence, given)
    for name, function in functions.items():
        given = points.get(name, {})
        broken = [one for one in check(function, given, required_only=True) if not one.holds]
        if broken:
            names = "; ".join(one.check for one in broken)
            options = "".join(f" --set {key}={value}" for key, value in given.items())
            raise SpecError(
                f"{_place_of('divergence', spec)}: '{name}' must keep what is required of every "
                f"divergence, but got broken: {names} (the first: {broken[0].detail}). "
                f"Mend it until this holds: kd-sweep {COMMAND} {name}{options}."
            )


def _configs(spec: SweepSpec) -> Iterator[TrialConfig]:
    """Yields the configs of draws from the inside of the space, then of its corners."""
    space, rng = spec.search, random.Random(0)
    drawn = (space.draw(rng) for _ in range(0 if spec.is_study else DRAWS))
    return map(spec.trial_config, chain(drawn, spec.points()))


def _place_of(field: str, spec: SweepSpec) -> str:
    return f"{spec.section_of(field) or 'loss'}.{field}"


@contextmanager
def _errors_at(place: str) -> Iterator[None]:
    """Turns a `ValueError` into a `SpecError` that names the field of the spec, or the command."""
    try:
        yield
    except ValueError as error:
        message = str(error).removeprefix("divergence ").rstrip(".")
        raise SpecError(f"{place}: {message}.") from error


@contextmanager
def _importable_from(folder: Path) -> Iterator[None]:
    """Lets Python import modules from `folder` inside the `with`: the folder that a command is
    called in is not on its path."""
    before = set(sys.modules)
    place = str(folder.absolute())
    sys.path.insert(0, place)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(place)
        # Forgotten again, as this process may look at the same folder after the file was edited.
        for name in set(sys.modules) - before:
            if is_below(sys.modules[name], folder):
                del sys.modules[name]
