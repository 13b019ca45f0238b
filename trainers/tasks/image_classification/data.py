"""Prepared images, read by memory map, and the batches of their views."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.files import fingerprints
from trainers.tasks.balanced import balanced
from trainers.tasks.image_classification import views
from trainers.tasks.image_classification.facts import ImageFacts, num_views
from trainers.trial.fields import Augmentation
from trainers.trial.seen import ALL, Seen

Numbers = NDArray[np.int64]
# Images of a batch that is only run forwards, by type of device.
GROUP_IMAGES = {"cpu": 256, "cuda": 2048}
# Bits of a view's number where each epoch has new views: far more than there are epochs, and few
# enough that the number of a view of an image, view * images + image, stays below 2^63.
FRESH_VIEW_BITS = 36


@dataclass(frozen=True)
class ImageBatch:
    """Views of some images of one split: one of each, or a second one beside it.

    pixels: [views * B, channels, height, width], normalised, all first views before all second
    ones; labels: [B * views], those of one image beside each other, as everywhere behind the
    network; examples: [B] their numbers; regions: the trial's; teacher_hidden: the teacher's logits
    [B * views, …] on the CPU when they were read ahead. B may be 0.
    """

    split_name: str
    examples: Numbers
    pixels: Tensor
    labels: Tensor
    regions: int = 1
    teacher_hidden: Tensor | None = None
    sampled: None = None  # nobody writes images

    @property
    def sequence_ids(self) -> Tensor:
        """The views of an image belong together."""
        rows = torch.arange(len(self.examples), device=self.labels.device)
        return rows.repeat_interleave(self.num_views)

    @property
    def num_views(self) -> int:
        """Views of each image in the batch."""
        return len(self.labels) // max(1, len(self.examples))

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
        shuffled = _shuffled(self.seed, epoch, self.num_images)
        chosen = shuffled[index * self.batch_size : (index + 1) * self.batch_size]
        return self._view(epoch) * self.num_images + chosen

    def _view(self, epoch: int) -> int:
        if self.num_views:
            return (self.seed + epoch) % self.num_views
        bits = views.mixed(self.seed, epoch)[0]
        return int(bits >> np.uint64(64 - FRESH_VIEW_BITS))


@lru_cache(maxsize=1)  # steps are read in order, and an epoch has many
def _shuffled(seed: int, epoch: int, num_images: int) -> Numbers:
    # a generator of its own: the order must not depend on what else draws numbers
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(num_images)


class ImageSplit:
    """One split, memory-mapped. See `trainers.parts.Split`.

    An example is a view of an image: number `view * images + image`. The views that a teacher's
    cache holds are numbered from 0; where each epoch has new ones, their numbers are larger. A view
    is decided by the image's row in the files, so a subset has the very views that all have. With a
    second view, an example is both, and has two labels.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        facts: ImageFacts,
        seen: Seen = ALL,
    ):
        """Opens what is `seen` of split `name` of the prepared images in `folder`; a subset has of
        each class as many."""
        self.name = name
        self._pixels = _mapped(folder, f"{name}-pixels")
        self._labels = _mapped(folder, f"{name}-labels")
        self._ids = _mapped(folder, f"{name}-ids")
        self._rows = np.arange(len(self._labels))
        subset = seen.subset
        if subset is not None:
            subset.check(len(self._rows), len(facts.class_names))
            self._rows = balanced(np.asarray(self._labels), subset.num_examples, subset.seed)
        self._facts = facts
        is_train = name == "train"
        first = Augmentation(facts.augmentation if is_train else Augmentation.NONE)
        self._kinds = [first, seen.second_view][: seen.num_rows]
        self._num_views = num_views(self._kinds, facts.views)
        self._regions = seen.regions
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
        return np.full(len(self), len(self._kinds), np.int64)

    @property
    def image_ids(self) -> Numbers:
        """A number for what each image is, whatever its views."""
        return np.asarray(self._ids[self._rows])

    @cached_property
    def example_ids(self) -> Numbers:
        """See `trainers.parts.Split`."""
        if self._kinds == [Augmentation.NONE]:
            return self.image_ids
        view, row = self._place(np.arange(len(self)))
        kinds = [list(Augmentation).index(kind) for kind in self._kinds]
        return views.mixed(self._ids[row], view, row, *kinds).view(np.int64)

    def num_positions(self, examples: Numbers) -> int:
        """One label a view."""
        return len(examples) * len(self._kinds)

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
        stored = self._pixels[row]
        made = [
            # A second view is drawn apart from the first one of the same number.
            views.views(stored, views.mixed(view, row, *range(1, k + 1))[: len(examples)], kind)
            for k, kind in enumerate(self._kinds)
        ]
        pixels = made[0] if len(made) == 1 else np.concatenate(made)
        normalised = np.subtract(pixels, self._mean, dtype=np.float32)
        normalised /= self._std
        labels = np.repeat(self._labels[row].astype(np.int64), len(made))
        return ImageBatch(
            self.name,
            examples,
            torch.from_numpy(normalised),
            torch.from_numpy(labels),
            regions=self._regions,
        )

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
    seen: Seen = ALL

    @classmethod
    def open(cls, folder: Path, seen: Seen = ALL) -> "ImageData":
        """Returns what is `seen` of the images in `folder`. Raises `ValueError` when it holds none,
        damaged ones, or too few for the subset."""
        facts = ImageFacts.read(folder)
        train = ImageSplit("train", folder, facts, seen)
        # It is seen whole, and as it is.
        validation = ImageSplit("validation", folder, facts, Seen(regions=seen.regions))
        return cls(folder, facts, {"train": train, "validation": validation}, seen)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.facts.class_names)

    def cache_key(self) -> dict[str, Any]:
        """See `trainers.parts.Data`."""
        key = {"classes": self.num_classes, "mean": self.facts.mean, "std": self.facts.std}
        # Named only where it says something, so that caches of before keep their keys.
        regions = self.seen.regions
        return key if regions == 1 else key | {"regions": regions}


def write(folder: Path, name: str, values: NDArray[Any]) -> None:
    """Writes an array into prepared data."""
    np.save(folder / f"{name}.npy", values, allow_pickle=False)


def _mapped(folder: Path, name: str) -> NDArray[Any]:
    path = folder / f"{name}.npy"
    try:
        # as a plain array: NumPy's class for maps takes its time at each index
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
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
