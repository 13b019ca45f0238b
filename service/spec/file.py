"""Reads a sweep: a YAML file or a shipped preset, with `--set` overrides, strictly.

Numbers such as 5e-4 are numbers here (YAML 1.1 takes them for text), `on`, `off`, `yes` and `no`
are text (YAML 1.1: booleans), and a name written twice is an error, not a silent choice.
"""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from service.errors import SpecError
from service.spec.document import SweepSpec
from service.spec.parse import parse_spec
from service.spec.paths import with_absolute_paths
from trainers.nearest import nearest

_YAML = "tag:yaml.org,2002:"
_SCALARS = {
    "bool": (re.compile(r"(true|false|True|False)$"), "tfTF"),
    "int": (re.compile(r"[-+]?(0|[1-9]\d*)$"), "-+0123456789"),
    "float": (re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"), "-+.0123456789"),
}


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without its surprises."""

    # Without YAML 1.1's own rules for booleans, numbers and dates; those below stand in for them.
    yaml_implicit_resolvers = {
        first: [
            (tag, pattern) for tag, pattern in resolvers if tag in (f"{_YAML}null", f"{_YAML}merge")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Returns the mapping. Raises `ConstructorError` where a name stands twice."""
        # The nodes still have both entries; in the mapping that is made, the last would win.
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"a name may stand once in a mapping, but got two entries for "
                    f"'{key.value}', at lines {seen[key.value]} and {line}. Remove one.",
                    problem_mark=key.start_mark,
                )
            seen[key.value] = line
        return super().construct_mapping(node, deep)


for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"{_YAML}{_name}", _pattern, list(_first))


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
}


def load_sweep(
    reference: str,
    overrides: Sequence[str],
    folder: Path,
    storage: Mapping[str, str] = MappingProxyType({}),
) -> SweepSpec:
    """Returns the spec in the file or preset `reference`, with `a.b=value` overrides; relative
    paths are taken from `folder`, and fields of its storage that it does not have from `storage`.
    Raises `SpecError`: where, which rule, what came, what to do."""
    document = read_document(reference, folder)
    for override in overrides:
        apply_override(document, override)
    given = document.setdefault("storage", {}) if storage else None
    if isinstance(given, dict):
        document["storage"] = dict(storage) | given
    return with_absolute_paths(parse_spec(document), folder)


def read_document(reference: str, folder: Path) -> dict[str, Any]:
    """Returns the raw document of a file or preset. Raises `SpecError`."""
    path = folder / Path(reference).expanduser()
    if path.is_file():
        return parse_yaml(path.read_text(), reference)
    known = preset_names()
    if reference in known:
        return parse_yaml(preset_text(reference), f"preset {reference}")
    raise SpecError(
        f"SPEC: must be a sweep file or the name of a preset, but got '{reference}'."
        f"{nearest(reference, known)} Presets: {', '.join(known)}; start a file with kd-sweep init."
    )


def parse_yaml(text: str, place: str) -> dict[str, Any]:
    """Returns the mapping that `text` holds. Raises `SpecError` naming `place` and the line."""
    try:
        document = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SpecError(f"{place}{line}: {error.problem}") from error
    if not isinstance(document, dict):
        raise SpecError(
            f"{place}: a sweep must be a mapping of names to values, but got {document!r}. "
            "kd-sweep init prints one to start from."
        )
    return document


def apply_override(document: dict[str, Any], override: str) -> None:
    """Sets `a.b.c=value` in the raw document; the value is read as YAML. Raises `SpecError`."""
    path, equals, text = override.partition("=")
    names = path.strip().split(".")
    if not equals or not all(names):
        raise SpecError(
            f"--set: must be written a.b=value, but got '{override}'. "
            "For example --set training.epochs=3."
        )
    current = document
    for depth, name in enumerate(names[:-1]):
        below = current.setdefault(name, {})
        if not isinstance(below, dict):
            place = ".".join(names[: depth + 1])
            raise SpecError(
                f"--set {path}: {place} must hold a mapping, but got {below!r}. "
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
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise SpecError(
            f"--set {path}: the value must be YAML, but got '{text}'. "
            f"Quote it: --set '{path}=\"…\"'."
        ) from error
