"""What a model's config makes: the complete config, and the number of parameters. To know it the
model has to be built, without numbers but with torch, seconds for each; so it is built once, and
that of the presets is shipped. No torch."""

import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainers.files import store
from trainers.files.json_files import read_object
from trainers.files.keyed import keyed_folder

Described = tuple[dict[str, Any], int]
# Made by tests/make_described.py, which a test compares it with.
SHIPPED = Path(__file__).with_name("described.json")
DESCRIPTION = "model.json"
_FIELDS: Mapping[str, type] = {"config": dict, "num_parameters": int}


def described(asked: Mapping[str, Any], home: Path, build: Callable[[], Described]) -> Described:
    """Returns what `build` returns, which is not called where it is known already: in a preset of
    this version, or from an earlier plan under `home`. asked: all that decides it beside the
    version of transformers. Raises `ValueError` for a damaged file, and as `build` does."""
    folder = keyed_folder(home, "configs", {**asked, "by": version("transformers")})
    shipped = read_object(SHIPPED)
    if folder.name in shipped:
        found = shipped[folder.name]
        return found["config"], found["num_parameters"]

    def make(place: Path) -> None:
        config, count = build()
        found = {"config": config, "num_parameters": count}
        (place / DESCRIPTION).write_text(json.dumps(found, default=str) + "\n")

    path = store.once(folder, make) / DESCRIPTION
    try:
        found = read_object(path, _FIELDS)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} must say what a config makes, but it is damaged ({error}). "
            f"Delete the folder {path.parent}."
        ) from error
    return found["config"], found["num_parameters"]
