"""Folders of adapters, as peft and transformers write them: what they hold, and the model that they
belong to; no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainers.files.fingerprints import of_document, of_file, of_recorded_model
from trainers.files.json_files import read_object
from trainers.files.store import write_text

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# What a trial writes beside its adapter: what the model was that it was trained beside.
BASE = "base_model.json"
KINDS = ("LORA",)
HUB_FOLDER = "models--"  # how the hub's cache names a model


def is_adapter(folder: Path) -> bool:
    """Returns whether a folder holds an adapter, and no whole model beside it."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def check_adapter(folder: Path, place: str, *, with_weights: bool) -> None:
    """Raises `ValueError` for an adapter of a kind that is no matrix added to another one, and with
    `with_weights` for one without weights."""
    config = read_adapter(folder, place)
    kind = config.get("peft_type")
    if kind not in KINDS:
        raise ValueError(
            f"{place}: an adapter must be of the kind {' or '.join(KINDS)}, but {folder} is "
            f"{kind!r:.40}. Merge it (PEFT's merge_and_unload) and save the whole model."
        )
    if with_weights and not (folder / WEIGHTS).is_file():
        raise ValueError(
            f"{place}: folder {folder} is not an adapter: {WEIGHTS} is missing. Name a folder that "
            "save_pretrained wrote."
        )


def read_adapter(folder: Path, place: str) -> Mapping[str, Any]:
    """Returns the content of a folder's `adapter_config.json`. Raises `ValueError` with `place`
    where it names no base."""
    try:
        return read_object(folder / CONFIG, {"base_model_name_or_path": str})
    except ValueError as error:
        raise ValueError(
            f"{place}: {error} Write there which model it was trained beside."
        ) from error


def of_adapter(folder: Path, base: str) -> dict[str, str]:
    """Returns what decides the model that an adapter and its base (`base`: its fingerprint) are
    together; where the base is stored is no part of it."""
    config = dict(read_object(folder / CONFIG))
    for name in ("base_model_name_or_path", "revision"):
        config.pop(name, None)
    if isinstance(config.get("target_modules"), list):  # peft writes a set, in any order
        config["target_modules"] = sorted(map(str, config["target_modules"]))
    weights = of_file(folder / WEIGHTS)
    return {"adapter": of_document(config), "weights": weights, "base": base}


def write_base(folder: Path, base: Path, *, fingerprint: str, architecture: str) -> None:
    """Says in an adapter's folder beside which model, of which class, it was trained. A model of
    the hub is named as there, so that the adapter can be carried elsewhere."""
    config = dict(read_object(folder / CONFIG))
    name, revision = _name_on_hub(base)
    config |= {"base_model_name_or_path": name, "revision": revision}
    write_text(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
    known = {"sha256": fingerprint, "architecture": architecture}
    write_text(folder / BASE, json.dumps(known, indent=2) + "\n")


def check_base(folder: Path, base: Path, place: str) -> None:
    """Raises `ValueError` where an adapter says that it was trained beside another model than the
    one in `base`. Reads every weight of that."""
    if not (folder / BASE).is_file():
        return
    recorded = str(read_object(folder / BASE, {"sha256": str})["sha256"])
    found = of_recorded_model(base, recorded)
    if found != recorded:
        raise ValueError(
            f"{place}: an adapter's base must be the model that it was trained beside "
            f"({recorded[:12]}…), but got {found[:12]}… in {base}. Name that model in {CONFIG}."
        )


def architecture_of(folder: Path) -> str | None:
    """Returns the class of the model in a folder, or of the one that its adapter is beside; None
    where it does not say."""
    if is_adapter(folder):
        known = folder / BASE
        return str(read_object(known)["architecture"]) if known.is_file() else None
    names = read_object(folder / "config.json").get("architectures") or [None]
    return names[0] and str(names[0])


def _name_on_hub(folder: Path) -> tuple[str, str | None]:
    """The hub's name and revision of a model in its cache; of any other its own path."""
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith(HUB_FOLDER):
        return repository.removeprefix(HUB_FOLDER).replace("--", "/"), folder.name
    return str(folder.resolve()), None
