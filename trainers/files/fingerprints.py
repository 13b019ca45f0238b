"""Hashes that say whether two inputs are the same: of files, folders of a model, documents,
weights."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 1 << 22
MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")
CODE, GENERATION = "*.py", "generation_config.json"
TOKENIZER_FILES = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "*.jinja",
    "*.model",
    "*.tiktoken",
)


def of_document(document: Any) -> str:
    """Returns the SHA-256 of a JSON-serialisable value, the same for equal values in any order of
    keys."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def of_file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def of_model(folder: Path) -> str:
    """Returns the SHA-256 over config, weights, code and generation config of a model's folder,
    wherever that is."""
    # A generation config that transformers derived from config.json says nothing new; older
    # fingerprints do without it.
    patterns = () if _is_derived(folder / GENERATION) else (GENERATION,)
    return _of_files(folder, (*MODEL_FILES, CODE, *patterns))


def of_recorded_model(folder: Path, recorded: str) -> str:
    """Returns `recorded` when it is the fingerprint of the model in `folder`, also in the form of
    earlier versions, which left out code and generation config; else what `of_model` returns."""
    found = of_model(folder)
    if found != recorded and _of_files(folder, MODEL_FILES) == recorded:
        return recorded
    return found


def of_tokenizer(folder: Path) -> str:
    """Returns the SHA-256 over the tokenizer's files in a folder."""
    return _of_files(folder, TOKENIZER_FILES)


def of_sources(texts: Mapping[str, str]) -> str:
    """Returns the SHA-256 over sources by their relative paths."""
    return of_document(
        {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    )


def of_modules(folder: Path) -> str:
    """Returns `of_sources` of the `.py` files in a folder."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    return of_document({name: of_file(path) for name, path in found.items()})


def of_weights(weights: "dict[str, Tensor]") -> str:
    """Returns the SHA-256 over a state dict: names, dtypes, shapes and bytes, sorted by name."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _is_derived(path: Path) -> bool:
    try:
        generation = json.loads(path.read_text(encoding="utf-8"))
        config = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
        tokens = {key: value for key, value in generation.items() if key.endswith("_token_id")}
        own = config | (config.get("text_config") or {})
        return bool(generation["_from_model_config"]) and all(
            own.get(key) == value for key, value in tokens.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _of_files(folder: Path, patterns: tuple[str, ...]) -> str:
    found = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    return of_document({path.name: of_file(path) for path in found if path.is_file()})
