"""Finds the models that a sweep names, and refuses what is none; no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainers.files.fingerprints import of_document, of_model
from trainers.files.json_files import read_object
from trainers.files.names import local_path
from trainers.students import folders
from trainers.tasks import weights
from trainers.trial.sources import ModelSource

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
CONSOLIDATED = "consolidated*"  # the same weights again, in a form that transformers does not load
DESCRIPTIONS = ("*.json", "*.txt", "*.model", "*.jinja")


def model_folder(source: ModelSource, role: str, *, with_weights: bool = True) -> Path:
    """Returns the folder of the model that `source.model` names: a local one, or the hub's
    snapshot, fetched when it is not in the cache (without weights: its description only). `role`
    (teacher | student) names it in errors. Raises `ValueError` for a folder that is no model,
    pickle weights, or a hub that is away."""
    folder = named_folder(source, role, with_weights=with_weights)
    check_is_there(folder, f"{role}.model")
    if folders.is_adapter(folder):
        folders.check_adapter(folder, f"{role}.model", with_weights=with_weights)
        _base_folder(folder, source, role, with_weights=with_weights)
    else:
        _check(folder, f"{role}.model", source, with_weights=with_weights)
    return folder


def whole_folder(source: ModelSource, role: str, *, with_weights: bool) -> Path:
    """Returns what `model_folder` does, or where that is an adapter, the folder of its base."""
    folder = model_folder(source, role, with_weights=with_weights)
    if folders.is_adapter(folder):
        return _base_folder(folder, source, role, with_weights=with_weights)
    return folder


def base_of(folder: Path, role: str, *, trust: bool = False) -> Path:
    """Returns the folder of the model that the adapter in `folder` was trained beside. Raises
    `ValueError` where it is not there, or another model is in its place."""
    source = ModelSource(model=str(folder.resolve()), trust_remote_code=trust)
    folders.check_adapter(folder, f"{role}.model", with_weights=True)
    base = _base_folder(folder, source, role, with_weights=True)
    folders.check_base(folder, base, f"{role}.model")
    return base


def fingerprint(source: ModelSource, role: str, *, with_weights: bool = True) -> str:
    """Returns the SHA-256 of the model that `source.model` names. An adapter's has that of its base
    in it, or where that is on the hub, the hub's name of the state that is here. with_weights: as
    for `model_folder`; those of a local folder are there without it."""
    folder = model_folder(source, role, with_weights=with_weights)
    if not folders.is_adapter(folder):
        return of_model(folder)
    base = _base_folder(folder, source, role, with_weights=with_weights)
    is_on_hub = local_path(_base_source(folder, source, role).model or "", Path()) is None
    return of_document(folders.of_adapter(folder, base.name if is_on_hub else of_model(base)))


def named_folder(source: ModelSource, role: str, *, with_weights: bool) -> Path:
    """Returns the folder that `source.model` names, as `model_folder` does, whatever is in it."""
    assert source.model is not None
    try:
        path = local_path(source.model, Path())
    except ValueError as error:
        raise ValueError(f"{role}.model: {error}.") from error
    return path or _snapshot(source, role, with_weights=with_weights)


def check_is_there(folder: Path, place: str) -> None:
    """Raises `ValueError` with `place` unless there is such a folder."""
    if not folder.is_dir():
        found = "it is a file" if folder.exists() else "it does not"
        raise ValueError(f"{place}: folder {folder} must exist, but {found}. Check the path.")


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the content of a model folder's `config.json`. Raises `ValueError` when it is no JSON
    object."""
    return read_object(folder / "config.json")


def check_code(source: ModelSource, role: str, config: Mapping[str, Any]) -> None:
    """Raises `ValueError` for a model, its config being `config`, that only code which it brings
    along can make, unless that is trusted."""
    if source.model is None or source.trust_remote_code or not config.get("auto_map"):
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if config.get("model_type") not in CONFIG_MAPPING_NAMES:
        raise ValueError(
            f"{role}.model: '{source.model}' must be a model that transformers knows, but it "
            f"brings code of its own for a {config.get('model_type')!r:.40}. Read that, and set "
            f"trust_remote_code: true under {role}, or take another model."
        )


def first_of(config: Mapping[str, Any], *names: str) -> int | None:
    """Returns the first number among `names` that a config has, itself or for its text model;
    architectures call the same thing by different names."""
    inner = config.get("text_config")
    text = inner if isinstance(inner, Mapping) else {}
    for name in names:
        value = config.get(name, text.get(name))
        if isinstance(value, int):
            return int(value)
    return None


def _snapshot(source: ModelSource, role: str, *, with_weights: bool) -> Path:
    from huggingface_hub import snapshot_download

    assert source.model is not None
    patterns = [*DESCRIPTIONS, *(["*.py"] if source.trust_remote_code else [])]
    if with_weights:
        patterns += [*WEIGHTS, *(weights.PICKLES[:1] if source.allow_pickle else ())]
    try:
        return Path(
            snapshot_download(
                source.model,
                revision=source.revision,
                allow_patterns=patterns,
                ignore_patterns=CONSOLIDATED,
            )
        )
    except Exception as error:  # the hub's client raises many kinds; all mean the same to the user
        raise ValueError(
            f"{role}.model: '{source.model}' is no folder here, and the Hugging Face hub did not "
            f"give it: {(str(error).splitlines() or [repr(error)])[0]}. Check the name and "
            "the network, or name a local folder."
        ) from error


def _base_source(folder: Path, source: ModelSource, role: str) -> ModelSource:
    """The model that the adapter in `folder` names as its base."""
    config = folders.read_adapter(folder, f"{role}.model")
    name = str(config["base_model_name_or_path"])
    if Path(name).is_dir():  # which may be written without a dot before it
        name = str(Path(name).resolve())
    return source.model_copy(update={"model": name, "revision": config.get("revision")})


def _base_folder(folder: Path, source: ModelSource, role: str, *, with_weights: bool) -> Path:
    place = f"{role}.model: the base that {folders.CONFIG} in {folder} names"
    base = _base_source(folder, source, role)
    try:
        found = named_folder(base, role, with_weights=with_weights)
    except ValueError as error:
        raise ValueError(f"{place} must be here: {error}") from error
    _check(found, place, source, with_weights=with_weights)
    return found


def _check(folder: Path, place: str, source: ModelSource, *, with_weights: bool) -> None:
    check_is_there(folder, place)
    weights.check_no_adapter(folder, place)
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{place}: folder {folder} is not a model: config.json is missing. "
            "Name a folder that save_pretrained wrote."
        )
    weights.check_quantiser(read_config(folder), place)
    if with_weights:
        weights.check_weights(folder, place, allow_pickle=source.allow_pickle)
