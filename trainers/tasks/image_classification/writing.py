"""Writes images as arrays, once, for every trial to read by memory map."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainers.files import fingerprints
from trainers.parts import SPLIT_NAMES
from trainers.tasks.image_classification import data, images
from trainers.tasks.image_classification.data import ImageData
from trainers.tasks.image_classification.facts import ImageFacts
from trainers.tasks.image_classification.images import Labelled
from trainers.trial.facts import SetFacts
from trainers.trial.sources import DataSource, PrepareRequest

EVALUATED = "validation"  # the split that students are measured on
# A channel that never varies is left as it is.
SMALLEST_STD = 1e-3
SUMMED_AT_ONCE = 4096


def write(request: PrepareRequest, folder: Path) -> None:
    """Writes both splits and the facts of a request into `folder`. Raises `ValueError` when an
    input is missing or wrong, or the splits do not fit together."""
    train, validation = (
        images.read(request.data, name, request.subset_seed) for name in SPLIT_NAMES
    )
    images.check_same_classes(train, validation)
    for name, split in zip(SPLIT_NAMES, (train, validation), strict=True):
        _write_split(folder, name, split)
    mean, std = moments(train.pixels)
    facts = ImageFacts(
        class_names=max(train.class_names, validation.class_names, key=len),
        shape=list(train.pixels.shape[1:]),
        mean=mean,
        std=std,
        num_train=len(train),
        num_validation=len(validation),
        augmentation=request.augmentation,
        views=request.views,
        fingerprint="",
    )
    facts.write(folder)
    replace(facts, fingerprint=data.fingerprint(folder)).write(folder)


def evaluation_set(source: DataSource, like: ImageData, folder: Path) -> tuple[ImageData, SetFacts]:
    """See `trainers.parts.TaskRuntime.evaluation_set`."""
    found = images.read(source, EVALUATED, 0)
    images.check_fits(found, like.facts.class_names, like.facts.shape)
    folder.mkdir(parents=True, exist_ok=True)
    _write_split(folder, EVALUATED, found)
    split = data.ImageSplit(EVALUATED, folder, like.facts)
    ids = split.example_ids
    facts = SetFacts(
        num_examples=len(found),
        fingerprint=fingerprints.of_document([ids.tolist(), found.labels.tolist()]),
        **{
            f"in_{name}": int(np.isin(ids, one.image_ids).sum())
            for name, one in like.splits.items()
        },
    )
    return replace(like, splits={EVALUATED: split}), facts


def _write_split(folder: Path, name: str, split: Labelled) -> None:
    data.write(folder, f"{name}-pixels", split.pixels)
    data.write(folder, f"{name}-labels", split.labels)
    data.write(folder, f"{name}-ids", images.example_ids(split.pixels))


def moments(pixels: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation of each channel of images [n, channels, height, width],
    of values in 0 to 1."""
    sums = np.zeros((2, pixels.shape[1]))
    for start in range(0, len(pixels), SUMMED_AT_ONCE):
        part = pixels[start : start + SUMMED_AT_ONCE].astype(np.float64) / 255
        sums += [part.sum((0, 2, 3)), np.square(part).sum((0, 2, 3))]
    mean, square = sums / (len(pixels) * pixels.shape[2] * pixels.shape[3])
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return mean.tolist(), np.where(std < SMALLEST_STD, 1.0, std).tolist()
