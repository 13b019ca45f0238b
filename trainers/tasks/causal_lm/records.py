"""Reads instruction and response pairs from where the sweep says they are; no torch.

A record that cannot be used is an error with its file, line and field, never skipped in silence.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trainers.tasks.causal_lm import docstrings
from trainers.tasks.causal_lm.record import Record
from trainers.trial.sources import BUILTIN_PREFIX, Columns, DataSource


def read(source: DataSource, split_name: str, home: Path) -> list[Record]:
    """Returns the records of a split (train | validation), at most as many as the source asks for.
    Raises `ValueError` naming file, line and field for a missing, empty or malformed source."""
    place = place_of(source, split_name)
    limit = source.max_train_examples if split_name == "train" else source.max_validation_examples
    if place.startswith(BUILTIN_PREFIX):
        records = _read_builtin(place, split_name, home)
    elif is_file(place):
        records = _read_lines(Path(place), split_name, source)
    else:
        records = _read_hub(place, split_name, source)
    if not records:
        raise ValueError(
            f"data.{split_name}: at least one record must be there, but {place} is empty."
        )
    return records[:limit]


def fingerprint(source: DataSource, split_name: str) -> str:
    """Returns the SHA-256 of what a split is read from, cheaply: the file's bytes, the standard
    library's listing, or the name and split of a hub data set. Raises `ValueError` when a file is
    missing."""
    place = place_of(source, split_name)
    if place.startswith(BUILTIN_PREFIX):
        return docstrings.fingerprint()
    if is_file(place):
        return hashlib.sha256(_bytes(Path(place), split_name)).hexdigest()
    name = source.train_split if split_name == "train" else source.validation_split
    return hashlib.sha256(f"hub:{place}:{name}".encode()).hexdigest()


def place_of(source: DataSource, split_name: str) -> str:
    """Returns what the source names for a split: a file, a hub data set, or a built-in text."""
    return source.train if split_name == "train" else source.validation


def is_file(place: str) -> bool:
    """Returns whether `place` names a file (by its ending, or because it exists) and not a hub data
    set."""
    return Path(place).suffix in (".jsonl", ".json") or Path(place).exists()


def parse_lines(text: str, place: str, source: DataSource) -> list[Record]:
    """Returns the records of JSON Lines `text`; `place` names it in errors (`ValueError`, with the
    line)."""
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{place}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{where}: each line must be one JSON object, but got {line[:60]!r} ({error.msg})."
            ) from error
        records.append(_record(row, where, source))
    return records


def _bytes(path: Path, split_name: str) -> bytes:
    if not path.is_file():
        raise ValueError(
            f"data.{split_name}: the file must exist, but {path} is missing. Give a JSON Lines "
            "file, the name of a Hugging Face data set, or builtin:docstrings."
        )
    return path.read_bytes()


def _read_lines(path: Path, split_name: str, source: DataSource) -> list[Record]:
    try:
        text = _bytes(path, split_name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} must be UTF-8 text, but got a wrong byte at {error.start}."
        ) from error
    return parse_lines(text, str(path), source)


def _read_builtin(place: str, split_name: str, home: Path) -> list[Record]:
    if place != BUILTIN_PREFIX + "docstrings":
        raise ValueError(
            f"data.{split_name}: the built-in text is builtin:docstrings, but got '{place}'."
        )
    return docstrings.read(split_name, home)


def _read_hub(place: str, split_name: str, source: DataSource) -> list[Record]:
    import datasets

    name = source.train_split if split_name == "train" else source.validation_split
    try:
        rows: Iterable[Any] = datasets.load_dataset(place, split=name)
    except Exception as error:  # the hub's client raises many kinds; all mean the same to the user
        raise ValueError(
            f"data.{split_name}: '{place}' is no file here and could not be loaded from the "
            f"Hugging Face hub (split '{name}'): {error}. Check the name and the network, "
            "or give a JSON Lines file."
        ) from error
    return [
        _record(row, f"{place}, split {name}, row {number}", source)
        for number, row in enumerate(rows)
    ]


def _record(row: Any, where: str, source: DataSource) -> Record:
    if not isinstance(row, Mapping):
        raise ValueError(f"{where}: a record must be an object, but got {type(row).__name__}.")
    if source.template == "chat" and source.columns.messages in row:
        return _chat_record(row[source.columns.messages], where)
    columns: Columns = source.columns
    response = _text(row, columns.response, where)
    if not response.strip():
        raise ValueError(
            f"{where}: the response '{columns.response}' must not be blank, but got {response!r}."
        )
    return Record(
        instruction=_text(row, columns.instruction, where),
        response=response,
        input=_text(row, columns.input, where, default=""),
        references=tuple(row.get(columns.references) or ()),
    )


def _text(row: Mapping[str, Any], column: str, where: str, default: str | None = None) -> str:
    value = row.get(column, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        got = f"the columns {sorted(row)}" if column not in row else type(value).__name__
        raise ValueError(
            f"{where}: '{column}' must be text, but got {got}. "
            "Name the right column under data.columns."
        )
    return value


def _chat_record(messages: Any, where: str) -> Record:
    if not isinstance(messages, list | tuple) or not all(_is_message(m) for m in messages):
        raise ValueError(
            f"{where}: messages must be a list of {{role, content}}, but got {messages!r:.80}."
        )
    if not messages or messages[-1]["role"] != "assistant" or not messages[-1]["content"].strip():
        raise ValueError(
            f"{where}: messages must end with the assistant's answer, "
            f"but got the roles {[m['role'] for m in messages]}."
        )
    before = [m["content"] for m in messages if m["role"] == "user"]
    return Record(
        instruction=before[-1] if before else "",
        response=messages[-1]["content"],
        messages=tuple({"role": m["role"], "content": m["content"]} for m in messages),
    )


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, Mapping)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
    )
