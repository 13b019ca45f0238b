"""The user's own divergences that a sweep names; most sweeps name none, and need no torch."""

from collections.abc import Sequence
from pathlib import Path

from service.own_code.sources import OwnModules
from service.spec.document import SweepSpec
from trainers.trial.catalogue import DIVERGENCES


def own_modules_of(spec: SweepSpec, folder: Path) -> OwnModules:
    """Returns the sources of the user's own divergences that the sweep names. Raises `SpecError`
    when one is neither in `folder` nor installed, does not take what the sweep sets for it, or
    breaks the contract."""
    names = [name for name in divergences_of(spec) if name not in DIVERGENCES]
    if not names:
        return OwnModules()
    from service.own_code.check import check_for_sweep

    return check_for_sweep(spec, names, folder)


def find_own_modules(spec: SweepSpec, folders: Sequence[Path]) -> tuple[Path, list[str]]:
    """Returns the first of `folders` that has a module that the sweep names, or the last, and what
    to tell the user where others have one of this name, too."""
    tops = {
        name.partition(":")[0].partition(".")[0] for name in divergences_of(spec) if ":" in name
    }
    having = [folder for folder in folders if any(_has_module(folder, top) for top in tops)]
    notes = [f"own modules: those in {having[0]} were taken; {one} has some, too" for one in having]
    return (having or list(folders)[-1:])[0], notes[1:]


def _has_module(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


def divergences_of(spec: SweepSpec) -> list[str]:
    """Returns the divergences that the sweep's trials may have, by name."""
    space = spec.search
    if "divergence" in space.domains:
        return [str(name) for name in space.domains["divergence"].points(2)]
    given = str(spec.budget().model_copy(update=spec.given()).divergence)
    cells = spec.points() if spec.is_study else ()
    return list(dict.fromkeys([given, *(str(one.get("divergence", given)) for one in cells)]))
