"""Writes `trainers/tasks/described.json`: what the configs in all shipped sweeps make, as the
installed transformers builds them.

    python tests/make_described.py
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import yaml

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from images_support import write_like_fashion  # noqa: E402  # path above

from service.actions import documents, plan  # noqa: E402  # path above
from service.spec.file import preset_text  # noqa: E402  # path above
from service.workspace import Workspace  # noqa: E402  # path above
from trainers.tasks import described  # noqa: E402  # path above

OF_FASHION = ("fashion-mnist", "temperature-images")


def built(folder: Path) -> dict[str, Any]:
    """What plans of all shipped sweeps build, in a home below `folder`, with nothing shipped."""
    nothing, starter = folder / "nothing.json", folder / "starter.yaml"
    overrides = dict.fromkeys(OF_FASHION, with_images(folder / "images"))
    nothing.write_text("{}")
    starter.write_text(documents.read_starter().text)
    workspace = Workspace(folder / "home", folder=folder)
    with patch.object(described, "SHIPPED", nothing):
        for name in (str(starter), *with_configs()):
            plan.plan_sweep(name, workspace, overrides=overrides.get(name, ()))
    paths = sorted((folder / "home" / "prepared" / "configs").glob(f"*/{described.DESCRIPTION}"))
    return {path.parent.name: json.loads(path.read_text()) for path in paths}


def with_configs() -> list[str]:
    """The presets whose models are made from configs; the others' are named, and have theirs."""
    found = {one.name: yaml.safe_load(preset_text(one.name)) for one in documents.list_presets()}
    return [name for name, one in found.items() if "config" in one["teacher"]]


def with_images(folder: Path) -> list[str]:
    """Overrides of a preset whose images every user has to get, with few images of their size."""
    place = write_like_fashion(folder)
    splits = [f"data.{split}={place}" for split in ("train", "validation")]
    return [*splits, "data.student_examples=20"]


if __name__ == "__main__":
    with TemporaryDirectory() as room:
        text = json.dumps(built(Path(room)), indent=1, sort_keys=True) + "\n"
    described.SHIPPED.write_text(text)
