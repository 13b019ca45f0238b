"""What is written down beside prepared images; no torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainers.files.json_files import read_object
from trainers.files.store import write_text
from trainers.trial.facts import PreparedFacts
from trainers.trial.fields import Augmentation
from trainers.trial.seen import Seen

FACTS_FILE = "prepared.json"
FIELDS: Mapping[str, type] = {
    "class_names": list,
    "shape": list,
    "mean": list,
    "std": list,
    "num_train": int,
    "num_validation": int,
    "augmentation": str,
    "views": int,
    "fingerprint": str,
}


@dataclass(frozen=True)
class ImageFacts:
    """The content of `prepared.json`. shape: channels, height, width; mean, std: of each channel
    over the training images, in 0 to 1; augmentation, views: the fields of the same names."""

    class_names: list[str]
    shape: list[int]
    mean: list[float]
    std: list[float]
    num_train: int
    num_validation: int
    augmentation: str
    views: int
    fingerprint: str

    @classmethod
    def read(cls, folder: Path) -> "ImageFacts":
        """Returns the facts in `folder`. Raises `ValueError` when it holds no prepared images."""
        path = folder / FACTS_FILE
        if not path.is_file():
            raise ValueError(f"{folder} must hold prepared images, but {FACTS_FILE} is missing.")
        found: dict[str, Any] = read_object(path, FIELDS)
        return cls(**{name: found[name] for name in FIELDS})

    def write(self, folder: Path) -> None:
        """Writes the facts into `folder`."""
        write_text(folder / FACTS_FILE, json.dumps(asdict(self), indent=2) + "\n")

    @property
    def sizes(self) -> dict[str, int]:
        """What the images decide of a model, by the names that transformers' configs have."""
        channels, height, _ = self.shape
        return {
            "num_labels": len(self.class_names),
            "num_channels": channels,
            "image_size": height,
        }


def num_views(kinds: Sequence[Augmentation], views: int) -> int:
    """Returns how many views of each training image a teacher's cache holds, where the field of a
    trial says `views`; 0: each epoch has new ones. kinds: of an image's first view and its second,
    if it has one."""
    return views if set(kinds) != {Augmentation.NONE} else 1


def read_prepared(folder: Path, seen: Seen) -> PreparedFacts:
    """See `trainers.parts.Task.read_prepared`."""
    facts = ImageFacts.read(folder)
    return PreparedFacts(
        num_classes=len(facts.class_names),
        num_train_examples=facts.num_train,
        num_train_learned=facts.num_train * seen.num_rows,
        num_validation_examples=facts.num_validation,
        fingerprints={"data": facts.fingerprint},
    )
