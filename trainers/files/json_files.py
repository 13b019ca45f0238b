"""JSON files, read: whatever is wrong with one is said with its name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file. Raises `ValueError` naming it when it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: must be a file that can be read, but got: {error}.") from error
    return parse_json(content, path)


def read_object(path: Path, fields: Mapping[str, type] | None = None) -> dict[str, Any]:
    """Returns the JSON object in a file, with at least `fields` (name → type). Raises `ValueError`
    naming the file."""
    return checked_object(read_json(path), path, fields)


def parse_json(content: bytes | str, place: object) -> Any:
    """Returns the value of a JSON text that was read at `place`. Raises `ValueError` naming it."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: must be JSON, but got: {error}.") from error


def checked_object(
    value: Any, place: object, fields: Mapping[str, type] | None = None
) -> dict[str, Any]:
    """Returns `value`, which was read at `place`. Raises `ValueError` naming it when it is no
    object with `fields`; a whole number is a float too."""
    if not isinstance(value, dict):
        raise ValueError(f"{place}: must be a JSON object, but got {_brief(value)}.")
    for name, kind in (fields or {}).items():
        found = value.get(name)
        is_number = kind is float and isinstance(found, int)
        if (
            not isinstance(found, kind)
            and not is_number
            or isinstance(found, bool) != (kind is bool)
        ):
            got = _brief(found) if name in value else "nothing"
            raise ValueError(f"{place}: {name}: must be {_WORDS[kind]}, but got {got}.")
    return value


_WORDS: Mapping[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def _brief(value: Any) -> str:
    return f"{json.dumps(value, default=str):.60}"
