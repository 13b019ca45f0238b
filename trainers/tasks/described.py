"""What a model's config makes: the complete config, and how large the model is. To know it the
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
from trainers.trial.facts import Activations, ModelFacts

# Made by tests/make_described.py, which a test compares it with.
SHIPPED = Path(__file__).with_name("described.json")
DESCRIPTION = "model.json"
_FIELDS: Mapping[str, type] = {"config": dict, "num_parameters": int}


def described(asked: Mapping[str, Any], home: Path, build: Callable[[], ModelFacts]) -> ModelFacts:
    """Returns what `build` returns, which is not called where it is known already: in a preset of
    this version, or from an earlier plan under `home`. asked: all that decides it beside the
    version of transformers. Raises `ValueError` for a damaged file, and as `build` does."""
    folder = keyed_folder(home, "configs", {**asked, "by": version("transformers")})
    shipped = read_object(SHIPPED)
    if folder.name in shipped:
        return _facts(shipped[folder.name])

    def make(place: Path) -> None:
        made = build()
        known = {name: value for name, value in made._asdict().items() if value is not None}
        if made.activations is not None:
            known["activations"] = made.activations.model_dump(exclude_defaults=True)
        (place / DESCRIPTION).write_text(json.dumps(known, default=str) + "\n")

    path = store.once(folder, make) / DESCRIPTION
    try:
        found = read_object(path, _FIELDS)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} must say what a config makes, but it is damaged ({error}). "
            f"Delete the folder {path.parent}."
        ) from error
    return _facts(found)


def _facts(found: Mapping[str, Any]) -> ModelFacts:
    kept = found.get("activations")  # of images, since they are counted
    return ModelFacts(
        found["config"],
        found["num_parameters"],
        found.get("products"),
        None if kept is None else Activations.model_validate(kept),
    )
