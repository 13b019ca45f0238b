"""Makes the folders and files that a sweep names absolute, and leaves its URLs and hub names
alone."""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.errors import SpecError
from service.spec.document import SweepSpec
from trainers.files.names import absolute_path, local_path
from trainers.files.urls import is_url
from trainers.trial.sources import BUILTIN_PREFIX

DATA = ("train", "validation")
MODELS = ("teacher", "student", "tokenizer")
Look = Callable[[str, Path], Path | None]


@dataclass
class PathFinder:
    """Finds what the relative names in a sweep mean. They are looked for in each of `folders` in
    turn; one that is nowhere is meant to be in the last. What is `given` beside the sweep's file,
    by the names of fields, is looked for in the last alone. `notes`: which one was taken where
    several are there."""

    folders: Sequence[Path]
    given: Collection[str] = ()
    notes: list[str] = field(default_factory=list)

    def find(self, name_of_field: str, name: str, look: Look) -> str:
        """Returns the path that `name` means, or `name` where it means something on a hub. Raises
        `SpecError` for a name that no file can have."""
        try:
            found = [look(name, folder) for folder in self._folders_for(name_of_field)]
        except ValueError as error:
            raise SpecError(f"{name_of_field}: {error}.") from error
        paths = list(dict.fromkeys(path for path in found if path is not None))
        there = [path for path in paths if os.path.exists(path)]
        if len(there) > 1:
            others = ", ".join(map(str, there[1:]))
            self.notes.append(f"{name_of_field}: {there[0]} was taken; there is {others}, too")
        return next(map(str, there[:1] or paths[-1:]), name)

    def _folders_for(self, name: str) -> Sequence[Path]:
        parts = name.split(".")
        is_given = any(".".join(parts[:depth]) in self.given for depth in range(1, len(parts) + 1))
        return self.folders[-1:] if is_given else self.folders


def with_absolute_paths(spec: SweepSpec, finder: PathFinder) -> SweepSpec:
    """Returns the spec with local paths made absolute, so that workers find them. Raises
    `SpecError` for a name that no file can have."""
    places = {name: getattr(spec.data, name) for name in DATA}
    data: dict[str, Any] = {
        name: _data_found(finder, f"data.{name}", place) for name, place in places.items()
    }
    data["test"] = {
        name: _data_found(finder, f"data.test.{name}", place)
        for name, place in spec.data.test.items()
    }
    changes: dict[str, Any] = {"data": spec.data.model_copy(update=data)}
    for role in MODELS:
        source = getattr(spec, role)
        if source is not None and source.model is not None:
            model = finder.find(f"{role}.model", source.model, local_path)
            changes[role] = source.model_copy(update={"model": model})
    storage, cache = spec.storage, spec.teacher_cache
    if storage.path is not None and not is_url(storage.path):
        path = finder.find("storage.path", storage.path, absolute_path)
        changes["storage"] = storage.model_copy(update={"path": path})
    if cache.folder is not None and cache.is_elsewhere:
        place = finder.find("teacher_cache.folder", cache.folder, absolute_path)
        changes["teacher_cache"] = cache.model_copy(update={"folder": place})
    if spec.notify.command is not None:
        path = finder.find("notify.command", spec.notify.command, absolute_path)
        changes["notify"] = spec.notify.model_copy(update={"command": path})
    return spec.model_copy(update=changes)


def _data_found(finder: PathFinder, name_of_field: str, place: str) -> str:
    if place.startswith(BUILTIN_PREFIX):
        return place
    return finder.find(name_of_field, place, local_path)
