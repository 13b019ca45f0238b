"""Finds the models and tokenizers that a sweep names, and refuses what is none; no torch."""

import json
from pathlib import Path
from typing import Any

from trainers.trial.sources import ModelSource, PrepareRequest

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth")
DESCRIPTIONS = ("*.json", "*.txt", "*.model", "*.jinja")


def model_folder(source: ModelSource, role: str, *, with_weights: bool = True) -> Path:
    """Returns the folder of the model that `source.model` names: a local one, or the hub's
    snapshot, fetched when it is not in the cache (without weights: its description only). `role`
    (teacher | student) names it in errors. Raises `ValueError` for a folder that is no model,
    pickle weights, or a hub that is away."""
    assert source.model is not None
    if _looks_local(source.model):
        folder = Path(source.model).expanduser().absolute()
    else:
        folder = _snapshot(source, role, with_weights=with_weights)
    _check(folder, f"{role}.model", source, with_weights=with_weights)
    return folder


def tokenizer_folder(request: PrepareRequest) -> Path | None:
    """Returns the folder of the request's tokenizer (by default the teacher's), or None when it is
    to be trained on the data. Raises `ValueError` when there is none, and as above."""
    source = request.tokenizer
    if source is None and request.teacher.model is None:
        raise ValueError(
            "tokenizer: it must be given when the teacher is made from a config, but got none. "
            "Name one (tokenizer: {model: gpt2}), or train one on the data "
            "(tokenizer: {train: {vocab_size: 2048}})."
        )
    if source is None:
        folder = model_folder(request.teacher, "teacher", with_weights=False)
        return _check_tokenizer(folder, "teacher.model")
    if source.model is None:
        return None
    if _looks_local(source.model):
        folder = Path(source.model).expanduser().absolute()
    else:
        folder = _snapshot(ModelSource(model=source.model), "tokenizer", with_weights=False)
    return _check_tokenizer(folder, "tokenizer.model")


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the content of a model folder's `config.json`."""
    content: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return content


def vocab_size_of(config: dict[str, Any]) -> int | None:
    """Returns the rows of the output matrix that a config names, or None when it names none."""
    size = config.get("vocab_size", config.get("text_config", {}).get("vocab_size"))
    return None if size is None else int(size)


def _looks_local(name: str) -> bool:
    return name.startswith((".", "/", "~")) or Path(name).exists() or name.count("/") > 1


def _snapshot(source: ModelSource, role: str, *, with_weights: bool) -> Path:
    from huggingface_hub import snapshot_download

    assert source.model is not None
    patterns = [*DESCRIPTIONS, *(["*.py"] if source.trust_remote_code else [])]
    if with_weights:
        patterns += [*WEIGHTS, *(PICKLES[:1] if source.allow_pickle else ())]
    try:
        return Path(
            snapshot_download(source.model, revision=source.revision, allow_patterns=patterns)
        )
    except Exception as error:  # the hub's client raises many kinds; all mean the same to the user
        raise ValueError(
            f"{role}.model: '{source.model}' is no folder here, and the Hugging Face hub did not "
            f"give it: {str(error).splitlines()[0]}. Check the name and "
            "the network, or name a local folder."
        ) from error


def _check_tokenizer(folder: Path, place: str) -> Path:
    if not any(folder.glob("tokenizer*")) and not (folder / "vocab.json").is_file():
        raise ValueError(
            f"{place}: folder {folder} has no tokenizer: tokenizer.json is missing. "
            "Name one under tokenizer, or train one: tokenizer: {train: {vocab_size: 8192}}."
        )
    return folder


def _check(folder: Path, place: str, source: ModelSource, *, with_weights: bool) -> None:
    if not folder.is_dir():
        raise ValueError(f"{place}: folder {folder} must exist, but it does not. Check the path.")
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{place}: folder {folder} is not a model: config.json is missing. "
            "Name a folder that save_pretrained wrote."
        )
    safe = any(path for pattern in WEIGHTS for path in folder.glob(pattern))
    if safe or not with_weights:
        return
    pickled = [path.name for pattern in PICKLES for path in sorted(folder.glob(pattern))]
    if not pickled:
        raise ValueError(
            f"{place}: folder {folder} is not a model: model.safetensors is missing. "
            "Name a folder that save_pretrained wrote."
        )
    if not source.allow_pickle:
        raise ValueError(
            f"{place}: weights must be safetensors, but got {pickled[0]} in {folder}, which can "
            "run code when it is opened. Convert it, or set allow_pickle: true if you trust it."
        )
