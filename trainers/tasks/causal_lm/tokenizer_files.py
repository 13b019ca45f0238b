"""A tokenizer's folder: whether it holds one, whose code reads it, and the tokenizer in it; torch
only where transformers' own class for it is asked for."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# any of these holds the entries themselves; other files only describe them
VOCABULARY_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*.tiktoken")
NEED_READERS = ("*.model", "*.tiktoken")
READERS = ("sentencepiece", "tiktoken")
CONFIG = "tokenizer_config.json"


def has_vocabulary(folder: Path) -> bool:
    """Returns whether a folder has a tokenizer of its own."""
    return any(path for pattern in VOCABULARY_FILES for path in folder.glob(pattern))


def brings_code(folder: Path) -> bool:
    """Returns whether a folder's tokenizer names a class of its own code."""
    try:
        described = json.loads((folder / CONFIG).read_bytes())
        return bool(described["auto_map"]["AutoTokenizer"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def load(folder: Path, place: str, *, trust: bool) -> Any:
    """Returns the tokenizer in `folder`. Its own code runs only when `trust`. Raises `ValueError`
    with `place` when transformers cannot read it."""
    from transformers import AutoTokenizer

    _check_readers(folder, place)
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust, local_files_only=True)
    except Exception as error:  # whatever a damaged file, the library or the folder's code raises
        if brings_code(folder) and not trust:
            raise ValueError(
                f"{place}: the tokenizer in {folder} must be one that transformers reads, but it "
                "brings code of its own. Read that, and set trust_remote_code: true under "
                "tokenizer (without a tokenizer of its own, under teacher), or name another one."
            ) from error
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise ValueError(
            f"{place}: {folder}: its tokenizer must be one that transformers reads, but got "
            f"{type(error).__name__}: {reason}. Save it again with save_pretrained, or name "
            "another one."
        ) from error


def _check_readers(folder: Path, place: str) -> None:
    """Refuses forms whose reader is not installed; transformers names another package for them."""
    has_reader = any(find_spec(name) for name in READERS)
    if has_reader or (folder / "tokenizer.json").is_file():
        return
    found = [path.name for pattern in NEED_READERS for path in sorted(folder.glob(pattern))]
    if found:
        raise ValueError(
            f"{place}: {folder}: {found[0]} must be read by the package sentencepiece (or "
            "tiktoken), but that is not installed here. Install it on every node, or save the "
            "tokenizer where it is installed: AutoTokenizer's save_pretrained writes "
            "tokenizer.json, which needs neither."
        )


def load_quickly(folder: Path) -> Any:
    """Returns the tokenizer in `folder` without loading torch, or None where only `transformers`'
    own class for it, or the folder's code, can read it."""
    # AutoTokenizer would load torch.
    from transformers import PreTrainedTokenizerFast
    from transformers.utils import logging

    if not (folder / "tokenizer.json").is_file():
        return None
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns of a class that is not the tokenizer's own
    try:
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception:  # whatever is wrong with it is for the tokenizer's own class to say
        return None
    finally:
        logging.set_verbosity(level)
