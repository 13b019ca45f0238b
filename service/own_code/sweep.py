"""The user's own divergences that a sweep names; most sweeps name none, and need no torch."""

from pathlib import Path

from service.own_code.sources import OwnModules
from service.spec.document import SweepSpec
from trainers.trial.catalogue import DIVERGENCES


def own_modules_of(spec: SweepSpec, folder: Path) -> OwnModules:
    """Returns the sources of the user's own divergences that the sweep names. Raises `SpecError`
    when one is neither in `folder` nor installed, does not take what the sweep sets for it, or
    breaks the contract."""
    names = [name for name in _divergences(spec) if name not in DIVERGENCES]
    if not names:
        return OwnModules()
    from service.own_code.check import check_for_sweep

    return check_for_sweep(spec, names, folder)


def _divergences(spec: SweepSpec) -> list[str]:
    space = spec.search
    if "divergence" in space.domains:
        return [str(name) for name in space.domains["divergence"].points(2)]
    return [str(spec.budget().model_copy(update=spec.given()).divergence)]
