"""Reads instruction and response pairs from where the sweep says they are; no torch.

A record that cannot be used is an error with its file, line and field, never skipped in silence.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainers.files.names import local_path
from trainers.files.urls import is_url
from trainers.tasks.causal_lm import data_files, docstrings, rows
from trainers.tasks.causal_lm.columns import json_columns, record_of
from trainers.tasks.causal_lm.record import Record
from trainers.trial.sources import BUILTIN_PREFIX, DataSource


def read(source: DataSource, split_name: str, home: Path) -> list[Record]:
    """Returns the records of a split (train | validation), at most as many as the source asks for.
    Raises `ValueError` naming file, line and field for a missing, empty or malformed source."""
    place = place_of(source, split_name)
    limit = source.max_train_examples if split_name == "train" else source.max_validation_examples
    path = file_of(source, split_name)
    if place.startswith(BUILTIN_PREFIX):
        records = docstrings.read(split_name, home)
    elif path is not None:
        records = _read_file(path, split_name, source)
    else:
        records = _read_hub(place, split_name, source)
    if not records:
        raise ValueError(
            f"data.{split_name}: at least one record must be there, but {place} is empty."
        )
    return records[:limit]


def fingerprint(source: DataSource, split_name: str) -> str:
    """Returns the SHA-256 of what a split is read from, cheaply: the files' bytes, the standard
    library's listing, or name, config and split of a hub data set. Raises `ValueError` when a file
    is missing."""
    place = place_of(source, split_name)
    path = file_of(source, split_name)
    if place.startswith(BUILTIN_PREFIX):
        return docstrings.fingerprint()
    if path is not None:
        with _readable(path, split_name):
            return data_files.fingerprint(path, _split(source, split_name), source.config_name)
    config = f":{source.config_name}" if source.config_name else ""
    name = _split(source, split_name)
    return hashlib.sha256(f"hub:{place}{config}:{name}".encode()).hexdigest()


def place_of(source: DataSource, split_name: str) -> str:
    """Returns what the source names for a split: a file, a hub data set, or a built-in text."""
    return source.train if split_name == "train" else source.validation


def is_on_hub(source: DataSource, split_name: str) -> bool:
    """Returns whether a split is of a hub data set. Raises `ValueError` as `file_of` does."""
    return file_of(source, split_name) is None and not place_of(source, split_name).startswith(
        BUILTIN_PREFIX
    )


def file_of(source: DataSource, split_name: str) -> Path | None:
    """Returns the file or folder that a split is read from; None for a hub data set or a built-in
    text. Raises `ValueError` for a place that can be none of them."""
    place = place_of(source, split_name)
    if place.startswith(BUILTIN_PREFIX):
        if place != BUILTIN_PREFIX + "docstrings":
            raise ValueError(
                f"data.{split_name}: the built-in text is builtin:docstrings, but got '{place}'."
            )
        return None
    if is_url(place):
        raise ValueError(
            f"data.{split_name}: it must be a file, a folder, the name of a Hugging Face data set "
            f"or builtin:docstrings, but got the URL {place}. Download it first."
        )
    try:
        return local_path(place, Path())
    except ValueError as error:
        raise ValueError(f"data.{split_name}: {error}.") from error


def _split(source: DataSource, split_name: str) -> str:
    """The split's name in the data set that it is read from."""
    return source.train_split if split_name == "train" else source.validation_split


@contextmanager
def _readable(path: Path, split_name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ValueError(
            f"data.{split_name}: the file must exist, but {error.filename or path} is missing. "
            "Give a file (JSON Lines, a JSON array, CSV, parquet), a pattern of files "
            "(data/*.parquet), a folder that save_to_disk wrote or that was cloned from a hub, the "
            "name of a Hugging Face data set, or builtin:docstrings."
        ) from error
    except OSError as error:
        raise ValueError(
            f"data.{split_name}: {path} must be readable, but got: {error.strerror or error}."
        ) from error


def _read_file(path: Path, split_name: str, source: DataSource) -> list[Record]:
    split = _split(source, split_name)
    with _readable(path, split_name):
        return [
            record_of(row, place, source)
            for file in data_files.files_of(path, split, source.config_name)
            for place, row in rows.read_rows(file, split, json_columns(source.columns))
        ]


def _read_hub(place: str, split_name: str, source: DataSource) -> list[Record]:
    import datasets

    name = _split(source, split_name)
    try:
        found: Iterable[Any] = datasets.load_dataset(place, source.config_name, split=name)
    except Exception as error:  # the hub's client raises many kinds; all mean the same to the user
        config = f", config '{source.config_name}'" if source.config_name else ""
        raise ValueError(
            f"data.{split_name}: '{place}' is no file here and could not be loaded from the "
            f"Hugging Face hub (split '{name}'{config}): {error}. Check the path, or the name and "
            "the network."
        ) from error
    return [
        record_of(row, f"{place}, split {name}, row {number}", source)
        for number, row in enumerate(found)
    ]
