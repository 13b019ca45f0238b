"""What people read of prepared images; no torch."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from trainers.tasks.image_classification.facts import ImageFacts

SPLIT = "validation"


def titles_of(folder: Path, ids: Collection[int]) -> dict[int, str]:
    """Returns number (from 0) and class of validation images of the prepared data in `folder`, by
    their ids. Raises `ValueError` where the data is damaged."""
    names = ImageFacts.read(folder).class_names
    try:
        known, labels = (
            np.load(folder / f"{SPLIT}-{what}.npy", allow_pickle=False)
            for what in ("ids", "labels")
        )
    except (OSError, EOFError) as error:
        raise ValueError(f"{folder} must be as it was prepared, but got: {error}.") from error
    rows = np.flatnonzero(np.isin(known, list(ids)))
    return {int(known[row]): f"image {row}, class {names[labels[row]]}" for row in rows.tolist()}
