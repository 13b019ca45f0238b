"""Finds the models that a sweep names, and refuses what is none; no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainers.files.json_files import read_object
from trainers.files.names import local_path
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
    _check(folder, f"{role}.model", source, with_weights=with_weights)
    return folder


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
