"""Reads labelled images from where the sweep says they are; no torch.

An image that cannot be used is an error with its place, never skipped in silence.
"""

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainers.tasks.balanced import balanced
from trainers.tasks.image_classification.places import (
    DIGITS,
    ONE_OF,
    is_idx,
    labels_beside,
    path_of,
    place_of,
    split_of,
)
from trainers.trial.sources import DataSource

if TYPE_CHECKING:
    from PIL.Image import Image

# Every fourth of the built-in digits validates.
DIGITS_HELD_OUT = 4
IDX_BYTES = 8  # the type of an IDX file's numbers that images and labels have: unsigned bytes
PICTURES = frozenset(".bmp .gif .jpeg .jpg .png .ppm .tif .tiff .webp".split())


@dataclass(frozen=True)
class Labelled:
    """Images of one split: pixels [n, channels, height, width] of 0 to 255, labels [n] in 0 to the
    number of `class_names` - 1."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: list[str]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def of(self, chosen: NDArray[np.int64]) -> "Labelled":
        """Returns the images of some numbers."""
        return Labelled(self.pixels[chosen], self.labels[chosen], self.class_names)


def read(source: DataSource, split_name: str, subset_seed: int = 0) -> Labelled:
    """Returns the images of a split (train | validation), at most as many as the source asks for:
    of each class as many, drawn by `subset_seed`. Raises `ValueError` naming the place of what is
    missing, empty or malformed."""
    found = _read(source, split_name)
    if not len(found):
        raise ValueError(f"data.{split_name}: at least one image must be there, but it is empty.")
    outside = np.flatnonzero((found.labels < 0) | (found.labels >= len(found.class_names)))
    if len(outside):
        raise ValueError(
            f"data.{split_name}: each label must be in 0 to {len(found.class_names) - 1}, but "
            f"image {outside[0]} (from 0) has {found.labels[outside[0]]}. Correct it or drop it."
        )
    limit = source.max_train_examples if split_name == "train" else source.max_validation_examples
    if limit is None or limit >= len(found):
        return found
    return found.of(balanced(found.labels, limit, subset_seed))


def _read(source: DataSource, split_name: str) -> Labelled:
    path = path_of(source, split_name)
    if place_of(source, split_name) == DIGITS:
        return _digits(split_name)
    if path is not None and path.is_file() and is_idx(path):
        return _read_idx(path, split_name)
    if path is not None and path.is_dir() and not (path / "state.json").is_file():
        if not (path / "dataset_dict.json").is_file():
            return _read_folder(path, split_name, source.image_size)
    return _read_table(path, source, split_name)


def check_same_classes(train: Labelled, validation: Labelled) -> None:
    """Raises `ValueError` unless both splits have images of one shape and the same classes."""
    if train.pixels.shape[1:] != validation.pixels.shape[1:]:
        raise ValueError(
            "data.validation: its images must have the shape of the training ones (channels, "
            f"height, width), {train.pixels.shape[1:]}, but got {validation.pixels.shape[1:]}. "
            "Set data.image_size."
        )
    short, long = sorted((train.class_names, validation.class_names), key=len)
    if long[: len(short)] != short or (len(short) < len(long) and not _are_numbers(long)):
        raise ValueError(
            "data.validation: its classes must be the training ones, "
            f"{', '.join(train.class_names)[:200]}, but got "
            f"{', '.join(validation.class_names)[:200]}."
        )


def check_fits(found: Labelled, class_names: list[str], shape: list[int]) -> None:
    """Raises `ValueError` unless images have that shape and no other classes."""
    nothing = np.zeros(0, np.int64)
    check_same_classes(Labelled(np.zeros((0, *shape), np.uint8), nothing, class_names), found)
    if found.labels.max() >= len(class_names):
        raise ValueError(
            f"data.validation: each label must be in 0 to {len(class_names) - 1}, as in the "
            f"training images, but got {found.labels.max()}. Correct it or drop it."
        )


def _are_numbers(names: list[str]) -> bool:
    """Whether classes have no names of their own: then a split may lack the last of them."""
    return names == [str(number) for number in range(len(names))]


# -- built-in digits


def _digits(split_name: str) -> Labelled:
    """scikit-learn's handwritten digits (8 x 8, Alpaydin and Kaynak 1998), which come with it."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    pixels = np.round(loaded.images[:, None] * (255 / 16)).astype(np.uint8)
    is_held_out = np.arange(len(pixels)) % DIGITS_HELD_OUT == DIGITS_HELD_OUT - 1
    chosen = np.flatnonzero(is_held_out == (split_name == "validation"))
    names = [str(digit) for digit in range(10)]
    return Labelled(pixels, loaded.target.astype(np.int64), names).of(chosen)


# -- IDX files (LeCun's format for MNIST)


def _read_idx(path: Path, split_name: str) -> Labelled:
    pixels = _idx_numbers(path, 3, split_name)
    beside = labels_beside(path, split_name)
    labels = _idx_numbers(beside, 1, split_name).astype(np.int64)
    if len(labels) != len(pixels):
        raise ValueError(
            f"data.{split_name}: {path.name} and {beside.name} must have as many entries, but got "
            f"{len(pixels)} and {len(labels)}. Copy or download them again."
        )
    count = int(labels.max()) + 1 if len(labels) else 0
    return Labelled(pixels[:, None], labels, [str(number) for number in range(count)])


def _idx_numbers(path: Path, dimensions: int, split_name: str) -> NDArray[np.uint8]:
    place = f"data.{split_name}: {path}"
    again = "Copy or download it again."
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{place} must be readable, but got: {error}. {again}") from error
    # Two zeros, the type, the number of dimensions; each dimension as 4 bytes; the numbers.
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, IDX_BYTES, dimensions]):
        raise ValueError(
            f"{place} must be an IDX file of bytes in {dimensions} dimensions, but it begins with "
            f"{content[:4].hex(' ')}. {again}"
        )
    shape = np.frombuffer(content, ">u4", dimensions, 4).astype(np.int64)
    expected = header + int(shape.prod())
    if len(content) != expected:
        raise ValueError(
            f"{place} must have the {expected} bytes that its header says, but got {len(content)}. "
            f"{again}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


# -- pictures


def _read_folder(folder: Path, split_name: str, size: int | None) -> Labelled:
    """A folder for each class, in the order of their names."""
    from PIL import Image, UnidentifiedImageError

    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    found = [
        (file, number)
        for number, place in enumerate(classes)
        for file in sorted(place.iterdir())
        if file.suffix.lower() in PICTURES
    ]
    if not found:
        raise ValueError(
            f"data.{split_name}: {folder} must have a folder of pictures for each class, but there "
            f"are none. Give {ONE_OF}."
        )
    pixels = []
    for file, _ in found:
        try:
            with Image.open(file) as picture:
                pixels.append(as_pixels(picture, size))
        except (OSError, UnidentifiedImageError, SyntaxError) as error:
            raise ValueError(
                f"data.{split_name}: {file} must be a picture, but got: {error}. Replace it."
            ) from error
    names = [str(file) for file, _ in found]
    labels = np.array([number for _, number in found])
    return Labelled(stacked(pixels, names, split_name), labels, [place.name for place in classes])


def as_pixels(picture: "Image", size: int | None) -> NDArray[np.uint8]:
    """Returns a picture as [channels, height, width]: one channel for a grey one, else three. With
    `size`, its shorter side is scaled to that and the middle cut out."""
    grey = picture.mode in ("1", "L", "LA", "I", "I;16", "F")
    converted = picture.convert("L" if grey else "RGB")
    if size is not None:
        scale = size / min(converted.size)
        width, height = (max(size, round(side * scale)) for side in converted.size)
        converted = converted.resize((width, height))
        left, top = (width - size) // 2, (height - size) // 2
        converted = converted.crop((left, top, left + size, top + size))
    pixels = np.asarray(converted, np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def stacked(
    pixels: Sequence[NDArray[np.uint8]], names: Sequence[str], split_name: str
) -> NDArray[np.uint8]:
    """Returns images as one array. Raises `ValueError` naming the first of another shape; grey ones
    among coloured ones get three equal channels."""
    channels = max(each.shape[0] for each in pixels)
    same = [np.repeat(each, channels, 0) if len(each) < channels else each for each in pixels]
    for each, name in zip(same, names, strict=True):
        if each.shape != same[0].shape:
            raise ValueError(
                f"data.{split_name}: all images must have one size, but {names[0]} has "
                f"{_size(same[0])} pixels and {name} {_size(each)}. Set data.image_size."
            )
    return np.stack(same)


def _size(pixels: NDArray[np.uint8]) -> str:
    return f"{pixels.shape[2]} x {pixels.shape[1]}"


# -- tables of Hugging Face datasets


def _read_table(path: Path | None, source: DataSource, split_name: str) -> Labelled:
    table = _load_table(path, source, split_name)
    image, label = _columns(table, source, split_name)
    import datasets

    feature = table.features[label]
    labels = np.asarray(table[label])
    if isinstance(feature, datasets.ClassLabel):
        names = list(feature.names)
    elif labels.dtype.kind in "iu":
        names = [str(number) for number in range(int(labels.max()) + 1)] if len(labels) else []
    else:
        names = sorted({str(one) for one in labels.tolist()})
        labels = np.array([names.index(str(one)) for one in labels.tolist()])
    if len(table) == 0:
        return Labelled(np.zeros((0, 1, 1, 1), np.uint8), labels.astype(np.int64), names)
    typed = table.cast_column(image, datasets.Image()).select_columns([image])
    pixels = [as_pixels(row[image], source.image_size) for row in typed]
    places = [f"row {number}" for number in range(len(pixels))]
    return Labelled(stacked(pixels, places, split_name), labels.astype(np.int64), names)


def _load_table(path: Path | None, source: DataSource, split_name: str) -> Any:
    import datasets

    name, place = split_of(source, split_name), place_of(source, split_name)
    try:
        if path is None:
            return datasets.load_dataset(place, source.config_name, split=name)
        if path.is_dir():
            found = datasets.load_from_disk(str(path))
            return found[name] if isinstance(found, datasets.DatasetDict) else found
        return datasets.Dataset.from_parquet(str(path))
    except Exception as error:  # datasets and the hub's client raise many kinds
        raise ValueError(
            f"data.{split_name}: it must be {ONE_OF}, but '{place}' (split '{name}') could not be "
            f"loaded: {(str(error).splitlines() or [repr(error)])[0]}."
        ) from error


def _columns(table: Any, source: DataSource, split_name: str) -> tuple[str, str]:
    """The columns of images and of labels: those that are named, else the only ones of their
    kind."""
    import datasets

    kinds = {"image": datasets.Image, "label": datasets.ClassLabel}
    found = []
    for kind, feature in kinds.items():
        named = getattr(source, f"{kind}_column")
        of_kind = [name for name, each in table.features.items() if isinstance(each, feature)]
        usual = [kind] if kind in table.features else []
        chosen = [named] if named is not None else (of_kind if len(of_kind) == 1 else usual)
        if len(chosen) != 1 or chosen[0] not in table.features:
            raise ValueError(
                f"data.{kind}_column: it must name the column of {kind}s, but the columns are "
                f"{', '.join(table.features)}. Set it."
            )
        found.append(chosen[0])
    return found[0], found[1]


def example_ids(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Returns a number for what each image is: equal pixels, equal number."""
    digests = [hashlib.blake2b(each.tobytes(), digest_size=8).digest() for each in pixels]
    return np.frombuffer(b"".join(digests), "<i8").astype(np.int64)
