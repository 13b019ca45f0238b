"""Makes the folders that a sweep names absolute, and leaves its URLs and hub names alone. Pure."""

from pathlib import Path
from typing import Any

from service.spec.document import SweepSpec
from trainers.files.urls import is_url
from trainers.trial.sources import ModelSource


def absolute(spec: SweepSpec, folder: Path) -> SweepSpec:
    """Returns the spec with local paths made absolute from `folder`, where workers find them."""
    teacher = _absolute_model(spec.teacher, folder)
    student = _absolute_model(spec.student, folder)
    data = spec.data.model_copy(
        update={
            name: _located(getattr(spec.data, name), folder) for name in ("train", "validation")
        }
    )
    changes: dict[str, Any] = {"teacher": teacher, "student": student, "data": data}
    if spec.storage.path and not is_url(spec.storage.path):
        path = str((folder / Path(spec.storage.path).expanduser()).resolve())
        changes["storage"] = spec.storage.model_copy(update={"path": path})
    cache = spec.teacher_cache
    if cache.is_elsewhere:
        place = str((folder / Path(str(cache.folder)).expanduser()).resolve())
        changes["teacher_cache"] = cache.model_copy(update={"folder": place})
    return spec.model_copy(update=changes)


def _absolute_model(source: ModelSource, folder: Path) -> ModelSource:
    if source.model is None:
        return source
    return source.model_copy(update={"model": _located(source.model, folder)})


def _located(name: str, folder: Path) -> str:
    """Returns the absolute path of a name that looks like one or is in `folder`; any other is a
    hub's name and stays as it is."""
    path = Path(name).expanduser()
    looks_local = name.startswith((".", "/", "~")) or path.suffix in (".jsonl", ".json")
    if looks_local or (folder / path).exists():
        return str((folder / path).resolve())
    return name
