"""Reads a sweep: a YAML file or a shipped preset, with `--set` overrides, strictly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from service.errors import SpecError
from service.spec.document import SweepSpec
from service.spec.parse import parse_spec
from service.spec.paths import PathFinder, with_absolute_paths
from service.spec.yaml_text import decode, read_yaml
from service.words import shortened
from trainers.nearest import nearest

MOST_NAMES = 10  # in the path of an override
SHOWN = 80

# Naming one of these replaces the other ones: a preset's own teacher makes room for the user's.
_REPLACES = {
    "teacher.model": ("teacher.config", "teacher.fit", "tokenizer"),
    "teacher.config": ("teacher.model",),
    "student.model": ("student.config",),
    "student.config": ("student.model",),
    "student.fit.epochs": ("student.fit.steps",),
    "student.fit.steps": ("student.fit.epochs",),
    "teacher.fit.epochs": ("teacher.fit.steps",),
    "teacher.fit.steps": ("teacher.fit.epochs",),
    "tokenizer.model": ("tokenizer.train",),
    "tokenizer.train": ("tokenizer.model",),
    "training.epochs": ("training.steps",),
    "training.steps": ("training.epochs",),
    "training.learning_rate": ("tune",),
    "tune.learning_rate": ("training.learning_rate",),
}


@dataclass(frozen=True)
class LoadedSweep:
    """A sweep as it was read. `folders`: where its relative names were looked for, in this order;
    `notes`: what the user should know of what was found there."""

    spec: SweepSpec
    folders: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def load_sweep(
    reference: str,
    overrides: Sequence[str],
    folder: Path,
    storage: Mapping[str, str] = MappingProxyType({}),
) -> LoadedSweep:
    """Returns the sweep in the file or preset `reference`, with `a.b=value` overrides. Its relative
    paths are looked for beside its file, then in `folder`; those of overrides in `folder`, and so
    those of `storage`, which has fields of its storage that the document does not have.
    Raises `SpecError`: where, which rule, what came, what to do."""
    document = read_document(reference, folder)
    for override in overrides:
        apply_override(document, override)
    given = document.setdefault("storage", {}) if storage else None
    if isinstance(given, dict):
        document["storage"] = dict(storage) | given
    finder = PathFinder(_folders(reference, folder), _given(overrides, storage, given))
    spec = with_absolute_paths(parse_spec(document), finder)
    return LoadedSweep(spec, tuple(finder.folders), tuple(finder.notes))


def _folders(reference: str, folder: Path) -> list[Path]:
    """Returns the folder of the sweep's file, if it is one, and the one to work in."""
    path = folder / Path(reference).expanduser()
    beside = [path.parent.resolve()] if path.is_file() else []
    return list(dict.fromkeys([*beside, folder.resolve()]))


def _given(overrides: Sequence[str], storage: Mapping[str, str], own: Any) -> set[str]:
    """Returns the fields that do not come from the sweep's file."""
    of_storage = {f"storage.{name}" for name in storage if name not in (own or {})}
    return {override.partition("=")[0].strip() for override in overrides} | of_storage


def read_document(reference: str, folder: Path) -> dict[str, Any]:
    """Returns the raw document of a file or preset. Raises `SpecError`."""
    text = _text_of(reference, folder)
    if text is not None:
        return parse_yaml(text, reference)
    known = preset_names()
    if reference in known:
        return parse_yaml(preset_text(reference), f"preset {reference}")
    raise SpecError(
        f"SPEC: must be a sweep file or the name of a preset, but got {_shown(reference)}."
        f"{nearest(reference, known)} Presets: {', '.join(known)}; start a file with kd-sweep init."
    )


def read_text(reference: str, folder: Path) -> str:
    """Returns the text of a sweep file, or the name of a preset as it is. Raises `SpecError` for
    what is neither."""
    read_document(reference, folder)
    return _text_of(reference, folder) or reference


def _text_of(reference: str, folder: Path) -> str | None:
    """Returns the text of the file, None where there is none. Raises `SpecError` for one that
    cannot be read."""
    try:
        path = folder / Path(reference).expanduser()
        raw = path.read_bytes() if path.is_file() else None
    except (OSError, ValueError, RuntimeError) as error:
        # In its order: no permission or too long a name, a NUL in it, ~ of an unknown user.
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error).rstrip(".")
        raise SpecError(
            f"SPEC: must be a file that can be read, but got {_shown(reference)}: {reason}. "
            "Correct its name, or its permissions."
        ) from error
    return None if raw is None else decode(raw, reference)


def parse_yaml(text: str, place: str) -> dict[str, Any]:
    """Returns the mapping that `text` holds. Raises `SpecError` naming `place` and the line."""
    document = read_yaml(text, place)
    if not isinstance(document, dict):
        raise SpecError(
            f"{place}: a sweep must be a mapping of names to values, but got {_shown(document)}. "
            "kd-sweep init prints one to start from."
        )
    return document


def apply_override(document: dict[str, Any], override: str) -> None:
    """Sets `a.b.c=value` in the raw document; the value is read as YAML. Raises `SpecError`."""
    path, equals, text = override.partition("=")
    names = path.strip().split(".")
    if not equals or not all(names) or len(names) > MOST_NAMES:
        raise SpecError(
            f"--set: must be written a.b=value, but got {_shown(override)}. "
            "For example --set training.epochs=3."
        )
    current = document
    for depth, name in enumerate(names[:-1]):
        below = current.setdefault(name, {})
        if not isinstance(below, dict):
            place = ".".join(names[: depth + 1])
            raise SpecError(
                f"--set {path}: {place} must hold a mapping, but got {_shown(below)}. "
                f"Set {place} as a whole: --set '{place}={{{names[depth + 1]}: …}}'."
            )
        current = below
    current[names[-1]] = _value(text, path)
    for replaced in _REPLACES.get(".".join(names), ()):
        _remove(document, replaced.split("."))


def _remove(document: dict[str, Any], names: list[str]) -> None:
    current: Any = document
    for name in names[:-1]:
        current = current.get(name) if isinstance(current, dict) else None
    if isinstance(current, dict):
        current.pop(names[-1], None)


def preset_names() -> list[str]:
    """Returns the names of the shipped sweeps, in order."""
    folder = files("service.presets")
    found = [item.name for item in folder.iterdir() if item.name.endswith(".yaml")]
    return sorted(name.removesuffix(".yaml") for name in found if not name.startswith("_"))


def preset_text(name: str) -> str:
    """Returns the document of a shipped sweep as it is written."""
    return files("service.presets").joinpath(f"{name}.yaml").read_text()


def starter_text() -> str:
    """Returns the commented sweep that `kd-sweep init` prints."""
    return preset_text("_starter")


def preset_summary(name: str) -> str:
    """Returns the first comment line of a shipped sweep: what it finds out."""
    return preset_text(name).splitlines()[0].removeprefix("#").strip()


def _value(text: str, path: str) -> Any:
    try:
        return read_yaml(text, f"--set {path}")
    except SpecError as error:
        raise SpecError(
            f"--set {path}: the value must be YAML, but got {_shown(text)} "
            f"({str(error).partition(': ')[2].rstrip('.')}). Quote it: --set '{path}=\"…\"'."
        ) from error


def _shown(value: Any) -> str:
    """Returns what came, on one line and cut short."""
    return shortened(repr(value), SHOWN)
