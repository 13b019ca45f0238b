"""Whether a name that a user wrote is a path on this machine or something on a hub; no torch."""

import errno
import os
import re
from pathlib import Path

from trainers.files.urls import is_url

# Endings of files that people name as data, models or documents. A hub's names have dots too
# (Qwen2.5-0.5B), so not every ending tells.
ENDINGS = frozenset(
    ".arrow .bin .bz2 .cfg .ckpt .csv .db .feather .gguf .gz .h5 .hdf5 .ini .json .json5 .jsonl "
    ".log .md .model .msgpack .ndjson .npy .npz .onnx .orc .parquet .pickle .pkl .pt .pth .py "
    ".safetensors .sqlite .tar .tgz .toml .tsv .txt .xls .xlsx .xml .xz .yaml .yml .zip "
    ".zst".split()
)
# What no name has: control characters, and halves of surrogate pairs.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# What the Hugging Face hub takes for the name of a repository.
_ON_A_HUB = re.compile(r"(\b[\w\-.]+\b/)?\b[\w\-.]{1,96}\b", re.ASCII)


def local_path(name: str, folder: Path) -> Path | None:
    """Returns the absolute path that `name` means, from `folder`, whether anything is there or not;
    None for what can only be on a hub or behind a URL. Raises `ValueError` for what is no name.

    A path begins with `.`, `/` or `~`, has a file's ending, cannot be a hub's name, or exists.
    """
    if is_url(name):
        return None
    path = absolute_path(name, folder)
    return path if _is_path(name) or _exists(path) else None


def absolute_path(name: str, folder: Path) -> Path:
    """Returns the absolute path of the file or folder `name`, from `folder`. Raises `ValueError`
    for a name that no file can have, or that begins with an unknown user's home."""
    if not name.strip() or "\0" in name:
        raise ValueError(f"a name must have characters, and none of them NUL, but got {name!r:.80}")
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"~ must be followed by / or the name of a user of this machine, but got '{name:.80}'"
        ) from error
    found = Path(os.path.realpath(folder / path))
    if _is_too_long(found):
        raise ValueError(
            f"a file's name must be shorter on this machine, but got {len(name)} characters: "
            f"{name:.40}…"
        )
    return found


def _is_too_long(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as error:  # most of all one that says that nothing is there, which is fine
        return error.errno == errno.ENAMETOOLONG
    return False


def _is_path(name: str) -> bool:
    return (
        name.startswith((".", "/", "~"))
        or Path(name).suffix.lower() in ENDINGS
        or _ON_A_HUB.fullmatch(name) is None
        or "--" in name
        or ".." in name
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # in a folder that may not be read
        return False
