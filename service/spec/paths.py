"""Makes the folders and files that a sweep names absolute, and leaves its URLs and hub names
alone."""

from pathlib import Path
from typing import Any

from service.spec.document import SweepSpec
from trainers.files.urls import is_url
from trainers.trial.sources import ModelSource

DATA = ("train", "validation")


def with_absolute_paths(spec: SweepSpec, folder: Path) -> SweepSpec:
    """Returns the spec with local paths made absolute from `folder`, where workers find them."""
    data = {name: _path_or_hub_name(getattr(spec.data, name), folder) for name in DATA}
    changes: dict[str, Any] = {
        "teacher": _absolute_model(spec.teacher, folder),
        "student": _absolute_model(spec.student, folder),
        "data": spec.data.model_copy(update=data),
    }
    storage, cache = spec.storage, spec.teacher_cache
    if storage.path and not is_url(storage.path):
        changes["storage"] = storage.model_copy(update={"path": _absolute(storage.path, folder)})
    if cache.folder is not None and cache.is_elsewhere:
        place = _absolute(cache.folder, folder)
        changes["teacher_cache"] = cache.model_copy(update={"folder": place})
    return spec.model_copy(update=changes)


def _absolute(path: str, folder: Path) -> str:
    return str((folder / Path(path).expanduser()).resolve())


def _absolute_model(source: ModelSource, folder: Path) -> ModelSource:
    if source.model is None:
        return source
    return source.model_copy(update={"model": _path_or_hub_name(source.model, folder)})


def _path_or_hub_name(name: str, folder: Path) -> str:
    """Returns the absolute path of a name that looks like one or is there in `folder`; any other is
    a hub's name and stays as it is."""
    # A path that is missing must become an error that names it, and not a question to the hub; so
    # what looks like a path is one, whether it is there or not.
    looks_local = name.startswith((".", "/", "~")) or Path(name).suffix in (".jsonl", ".json")
    if looks_local or (folder / Path(name).expanduser()).exists():
        return _absolute(name, folder)
    return name
