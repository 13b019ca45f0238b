"""A divergence of the user's own: whether a sweep can use it, and whether it keeps the contract of
the shipped ones."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.cautions import values_of
from service.errors import SpecError
from service.spec import SweepSpec
from service.spec_checks import samples
from trainers.catalogue import DIVERGENCES


def check_own(name: str, folder: Path, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns one row a check of `module:function` with these parameters, found in `folder` or
    installed: `check`, `holds`, `required`, `detail`. Raises `SpecError` when there is no such
    function, or it takes other parameters."""
    from trainers.losses.contract import check
    from trainers.losses.custom import check_parameters, load

    if ":" not in name:
        raise SpecError(
            f"check-loss: must be written module:function, but got '{name}'. "
            "For example my_losses:my_divergence."
        )
    with _found_in(folder):
        function = load(name)
        check_parameters(name, function, parameters)
        return [vars(finding) for finding in check(function, parameters)]


def check_own_of(spec: SweepSpec, folder: Path) -> None:
    """Raises `SpecError` when a divergence of the user's own that the sweep names is neither in
    `folder` nor installed, or does not take what the sweep sets for it."""
    space = spec.space()
    if all(name in DIVERGENCES for name in values_of(spec, space, "divergence")):
        return
    from trainers.losses.custom import own_parameters

    with _found_in(folder):
        for config in map(spec.trial_config, samples(space)):
            if config.divergence not in DIVERGENCES:
                own_parameters(config)


@contextmanager
def _found_in(folder: Path) -> Iterator[None]:
    # A command's own folder is not where Python looks for modules.
    sys.path.insert(0, str(folder))
    try:
        yield
    except ValueError as error:
        raise SpecError(str(error)) from error
    finally:
        sys.path.remove(str(folder))
