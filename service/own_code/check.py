"""A divergence of the user's own: whether a sweep can use it, and whether it keeps the contract of
the shipped ones."""

import importlib
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from service.errors import SpecError
from service.own_code.sources import OwnModules, read_modules
from service.spec.checks import samples
from service.spec.document import SweepSpec
from trainers.trial.catalogue import DIVERGENCES
from trainers.trial.config import TrialConfig
from trainers.trial.rules import CUSTOM_DIVERGENCE

COMMAND = "check-loss"
DRAWS = 50
Function = Callable[..., Any]


def check_own(name: str, folder: Path, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns one row a check of `module:function` with these parameters, found in `folder` or
    installed: `check`, `holds`, `required`, `detail`. Raises `SpecError` when there is no such
    function, it takes other parameters, or no spec could name it or them."""
    from trainers.losses.own.contract import check
    from trainers.losses.own.load import check_parameters, load

    if not CUSTOM_DIVERGENCE.fullmatch(name):
        raise SpecError(
            f"{COMMAND}: must be written module:function, both as Python spells names, but got "
            f"'{name}'. For example my_losses:my_divergence."
        )
    with _found_in(folder), _placed(COMMAND):
        function = load(name)
        check_parameters(name, function, parameters)
        return [vars(finding) for finding in check(function, parameters)]


def check_own_of(spec: SweepSpec, folder: Path) -> OwnModules:
    """Returns the sources of the user's own divergences that the sweep names; most name none.
    Raises `SpecError` when one is neither in `folder` nor installed, does not take what the sweep
    sets for it, or breaks the contract."""
    own = [name for name in _divergences(spec) if name not in DIVERGENCES]
    if not own:
        return OwnModules()
    from trainers.losses.own.load import load

    with _found_in(folder), _placed(_place_of("divergence", spec)):
        functions = {name: load(name) for name in own}
        _check_parameters(spec, functions)
        _check_contract(spec, functions)
        return read_modules(name.partition(":")[0] for name in own)


def _divergences(spec: SweepSpec) -> list[str]:
    space = spec.space()
    if "divergence" in space.domains:
        return [str(name) for name in space.domains["divergence"].points(2)]
    return [str(spec.budget().model_copy(update=spec.given()).divergence)]


def _check_parameters(spec: SweepSpec, functions: Mapping[str, Function]) -> None:
    from trainers.losses.own.load import check_parameters, given_parameters, strangers

    for config in map(spec.trial_config, samples(spec.space())):
        if config.divergence not in functions:
            continue
        function, given = functions[config.divergence], given_parameters(config)
        names = strangers(function, given)
        with _placed(_place_of(names[0] if names else "divergence", spec)):
            check_parameters(config.divergence, function, given)


def _check_contract(spec: SweepSpec, functions: Mapping[str, Function]) -> None:
    """Holds each function to what is required, at one point of the search: at its ends a parameter
    may well make a loss that is zero."""
    from trainers.losses.own.contract import check
    from trainers.losses.own.load import given_parameters

    points: dict[str, dict[str, Any]] = {}
    for config in _configs(spec):
        points.setdefault(config.divergence, given_parameters(config))
    for name, function in functions.items():
        given = points.get(name, {})
        findings = check(function, given, required_only=True)
        broken = [one for one in findings if not one.holds]
        if broken:
            names = "; ".join(one.check for one in broken)
            options = "".join(f" --set {key}={value}" for key, value in given.items())
            raise SpecError(
                f"{_place_of('divergence', spec)}: '{name}' must keep what is required of every "
                f"divergence, but got broken: {names} (the first: {broken[0].detail}). "
                f"Mend it until this holds: kd-sweep {COMMAND} {name}{options}."
            )


def _configs(spec: SweepSpec) -> Iterator[TrialConfig]:
    """Yields draws from the inside of the space, then its corners."""
    space, rng = spec.space(), random.Random(0)
    drawn = (space.draw(rng) for _ in range(DRAWS))
    return map(spec.trial_config, chain(drawn, samples(space)))


def _place_of(field: str, spec: SweepSpec) -> str:
    return f"search.{field}" if field in spec.search else f"loss.{field}"


@contextmanager
def _placed(place: str) -> Iterator[None]:
    """Says in which field of the spec, or in which command, the error lies."""
    try:
        yield
    except ValueError as error:
        message = str(error).removeprefix("divergence ").rstrip(".")
        raise SpecError(f"{place}: {message}.") from error


@contextmanager
def _found_in(folder: Path) -> Iterator[None]:
    """Lets Python find modules in `folder`, as long as this lasts: a command's own folder is not
    where it looks, and what it found there once may be another file the next time."""
    from trainers.losses.own.load import lies_in

    before = set(sys.modules)
    place = str(folder.absolute())
    sys.path.insert(0, place)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(place)
        for name in set(sys.modules) - before:
            if lies_in(sys.modules[name], folder):
                del sys.modules[name]
