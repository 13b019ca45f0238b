"""Makes the folders and files that a sweep names absolute, and leaves its URLs and hub names
alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.errors import SpecError
from service.spec.document import SweepSpec
from trainers.files.names import absolute_path, local_path
from trainers.files.urls import is_url
from trainers.trial.sources import BUILTIN_PREFIX

DATA = ("train", "validation")
MODELS = ("teacher", "student", "tokenizer")


def with_absolute_paths(spec: SweepSpec, folder: Path) -> SweepSpec:
    """Returns the spec with local paths made absolute from `folder`, where workers find them.
    Raises `SpecError` for a name that no file can have."""
    places = {name: getattr(spec.data, name) for name in DATA}
    data = {
        name: _named(f"data.{name}", place, folder, local_path)
        for name, place in places.items()
        if not place.startswith(BUILTIN_PREFIX)
    }
    changes: dict[str, Any] = {"data": spec.data.model_copy(update=data)}
    for role in MODELS:
        source = getattr(spec, role)
        if source is not None and source.model is not None:
            model = _named(f"{role}.model", source.model, folder, local_path)
            changes[role] = source.model_copy(update={"model": model})
    storage, cache = spec.storage, spec.teacher_cache
    if storage.path is not None and not is_url(storage.path):
        path = _named("storage.path", storage.path, folder, absolute_path)
        changes["storage"] = storage.model_copy(update={"path": path})
    if cache.folder is not None and cache.is_elsewhere:
        place = _named("teacher_cache.folder", cache.folder, folder, absolute_path)
        changes["teacher_cache"] = cache.model_copy(update={"folder": place})
    if spec.notify.command is not None:
        path = _named("notify.command", spec.notify.command, folder, absolute_path)
        changes["notify"] = spec.notify.model_copy(update={"command": path})
    return spec.model_copy(update=changes)


def _named(field: str, name: str, folder: Path, find: Callable[[str, Path], Path | None]) -> str:
    """Returns the path that `name` means, or `name` where it means something on a hub."""
    try:
        return str(find(name, folder) or name)
    except ValueError as error:
        raise SpecError(f"{field}: {error}.") from error
