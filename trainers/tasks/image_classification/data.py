"""Prepared images, read by memory map, and the batches of their views."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.files import fingerprints
from trainers.tasks.balanced import balanced
from trainers.tasks.image_classification import views
from trainers.tasks.image_classification.facts import ImageFacts
from trainers.trial.fields import Augmentation
from trainers.trial.subset import Subset

Numbers = NDArray[np.int64]
# Images of a batch that is only run forwards, by type of device.
GROUP_IMAGES = {"cpu": 256, "cuda": 2048}
# Bits of a view's number where each epoch has new views: far more than there are epochs, and few
# enough that the number of a view of an image, view * images + image, stays below 2^63.
FRESH_VIEW_BITS = 36


@dataclass(frozen=True)
class ImageBatch:
    """Views of some images of one split.

    pixels: [B, channels, height, width], normalised; labels: [B]; examples: [B] their numbers;
    teacher_hidden: the teacher's logits [B, C] on the CPU when they were read ahead. B may be 0.
    """

    split_name: str
    examples: Numbers
    pixels: Tensor
    labels: Tensor
    teacher_hidden: Tensor | None = None

    @property
    def sequence_ids(self) -> Tensor:
        """Each image stands for itself."""
        return torch.arange(len(self.labels), device=self.labels.device)

    def to(self, device: torch.device) -> "ImageBatch":
        """Returns the batch with its tensors on `device`."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "ImageBatch":
        """Returns the batch in memory that a GPU copies from while the CPU goes on."""
        return self._with(Tensor.pin_memory)

    def with_teacher_hidden(self, hidden: Tensor) -> "ImageBatch":
        """Returns the batch with the teacher's logits [B, C], which were read ahead."""
        return replace(self, teacher_hidden=hidden)

    def _with(self, change: Callable[[Tensor], Tensor]) -> "ImageBatch":
        # without teacher_hidden: whoever reads it ahead has pinned it, and its user moves it
        return replace(self, pixels=change(self.pixels), labels=change(self.labels))


@dataclass(frozen=True)
class ViewOrder:
    """Which views make which step: in each epoch one view of every image, in an order and of a
    number that depend on seed and epoch alone. num_views: those that take turns; 0: new ones."""

    num_images: int
    num_views: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which each image comes up once."""
        return -(-self.num_images // self.batch_size)

    def examples(self, step: int) -> Numbers:
        """See `trainers.parts.DataOrder`."""
        epoch, index = divmod(step, self.steps_per_epoch)
        chosen = self._shuffled(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        return self._view(epoch) * self.num_images + chosen

    def _shuffled(self, epoch: int) -> Numbers:
        # a generator of its own: the order must not depend on what else draws numbers
        random = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        return random.permutation(self.num_images)

    def _view(self, epoch: int) -> int:
        if self.num_views:
            return (self.seed + epoch) % self.num_views
        bits = views.mixed(self.seed, epoch)[0]
        return int(bits >> np.uint64(64 - FRESH_VIEW_BITS))


class ImageSplit:
    """One split, memory-mapped. See `trainers.parts.Split`.

    An example is a view of an image: number `view * images + image`. The views that a teacher's
    cache holds are numbered from 0; where each epoch has new ones, their numbers are larger. A view
    is decided by the image's row in the files, so a subset has the very views that all have.
    """

    def __init__(self, name: str, folder: Path, facts: ImageFacts, subset: Subset | None = None):
        """Opens split `name` of the prepared images in `folder`; of each class as many where it is
        a `subset`."""
        self.name = name
        self._pixels = _mapped(folder, f"{name}-pixels")
        self._labels = _mapped(folder, f"{name}-labels")
        self._ids = _mapped(folder, f"{name}-ids")
        self._rows = np.arange(len(self._labels))
        if subset is not None:
            subset.check(len(self._rows), len(facts.class_names))
            self._rows = balanced(np.asarray(self._labels), subset.num_examples, subset.seed)
        self._facts = facts
        is_train = name == "train"
        self._augmentation = Augmentation(facts.augmentation if is_train else Augmentation.NONE)
        self._num_views = facts.num_views if is_train else 1
        self._mean, self._std = (
            np.array(values, np.float32)[:, None, None] * np.float32(255)
            for values in (facts.mean, facts.std)
        )

    def __len__(self) -> int:
        """Views that are the same in every trial."""
        return max(1, self._num_views) * len(self._rows)

    @property
    def examples_per_epoch(self) -> int:
        """One view of each image."""
        return len(self._rows)

    @cached_property
    def num_learned(self) -> Numbers:
        """One label a view."""
        return np.ones(len(self), np.int64)

    @cached_property
    def example_ids(self) -> Numbers:
        """See `trainers.parts.Split`."""
        if self._augmentation == Augmentation.NONE:
            return np.asarray(self._ids[self._rows])
        view, row = self._place(np.arange(len(self)))
        kind = list(Augmentation).index(self._augmentation)
        return views.mixed(self._ids[row], view, row, kind).view(np.int64)

    def num_positions(self, examples: Numbers) -> int:
        """One label a view."""
        return len(examples)

    def order(self, *, batch_size: int, seed: int) -> ViewOrder:
        """See `trainers.parts.Split`."""
        return ViewOrder(len(self._rows), self._num_views, batch_size, seed)

    def groups(self, examples: Numbers, device_type: str) -> list[Numbers]:
        """See `trainers.parts.Split`."""
        size = GROUP_IMAGES[device_type]
        return [examples[start : start + size] for start in range(0, len(examples), size)]

    def collate(self, examples: Numbers) -> ImageBatch:
        """See `trainers.parts.Split`."""
        view, row = self._place(examples)
        draws = views.mixed(view, row)[: len(examples)]
        pixels = views.views(self._pixels[row], draws, self._augmentation)
        normalised = (pixels.astype(np.float32) - self._mean) / self._std
        labels = torch.from_numpy(self._labels[row].astype(np.int64))
        return ImageBatch(self.name, examples, torch.from_numpy(normalised), labels)

    def _place(self, examples: Numbers) -> tuple[Numbers, Numbers]:
        """Returns the view and the image's row of each example."""
        view, image = np.divmod(examples, len(self._rows))
        return view, self._rows[image]


@dataclass(frozen=True)
class ImageData:
    """The prepared images in a folder. See `trainers.parts.Data`."""

    folder: Path
    facts: ImageFacts
    splits: Mapping[str, ImageSplit]

    @classmethod
    def open(cls, folder: Path, subset: Subset | None = None) -> "ImageData":
        """Returns the images in `folder`, of those to train on a subset. Raises `ValueError` when
        it holds none, damaged ones, or too few for the subset."""
        facts = ImageFacts.read(folder)
        train = ImageSplit("train", folder, facts, subset)
        return cls(
            folder, facts, {"train": train, "validation": ImageSplit("validation", folder, facts)}
        )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.facts.class_names)

    def cache_key(self) -> dict[str, Any]:
        """See `trainers.parts.Data`."""
        return {"classes": self.num_classes, "mean": self.facts.mean, "std": self.facts.std}


def write(folder: Path, name: str, values: NDArray[Any]) -> None:
    """Writes an array into prepared data."""
    np.save(folder / f"{name}.npy", values, allow_pickle=False)


def _mapped(folder: Path, name: str) -> NDArray[Any]:
    path = folder / f"{name}.npy"
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path} must be as it was prepared, but got {type(error).__name__}: {error}. "
            f"Remove {folder}: it is prepared anew."
        ) from error
    return array


def fingerprint(folder: Path) -> str:
    """Returns the SHA-256 over the content of both splits and what is done with it."""
    files = {path.name: fingerprints.of_file(path) for path in sorted(folder.glob("*.npy"))}
    facts = ImageFacts.read(folder)
    return fingerprints.of_document([files, facts.augmentation, facts.views, facts.class_names])
