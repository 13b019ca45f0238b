"""Where labelled images are read from, and what decides them; neither torch nor numpy."""

from pathlib import Path

from trainers.files import fingerprints
from trainers.files.names import local_path
from trainers.files.urls import is_url
from trainers.trial.sources import BUILTIN_PREFIX, DataSource

DIGITS = BUILTIN_PREFIX + "digits"
IDX_IMAGES, IDX_LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
# What the files of a split begin with in a folder of IDX files.
IDX_SPLITS = {"train": "train", "validation": "t10k"}
ONE_OF = (
    f"{DIGITS}, an IDX file (…{IDX_IMAGES}, its labels beside it) or a folder of them, a folder "
    "with a folder of pictures for each class, a folder that save_to_disk wrote, a parquet file, "
    "or the name of a Hugging Face data set"
)
_FASHION_FILES = " and ".join(
    f"{start}-{kind}.gz" for start in IDX_SPLITS.values() for kind in (IDX_IMAGES, IDX_LABELS)
)
WHERE_FASHION_IS = (
    f"Fashion-MNIST is four files, {_FASHION_FILES.replace(' and ', ', ', 2)}: get them from "
    "data/fashion of https://github.com/zalandoresearch/fashion-mnist, and name the folder that "
    "has them as data.train and data.validation"
)


def place_of(source: DataSource, split_name: str) -> str:
    """Returns what the source names for a split."""
    return source.train if split_name == "train" else source.validation


def path_of(source: DataSource, split_name: str) -> Path | None:
    """Returns the file or folder that a split is read from, in a folder of IDX files the split's
    own; None for a hub data set or built-in images. Raises `ValueError` for what can be none of
    them, and for a path with nothing there."""
    place = place_of(source, split_name)
    if place == DIGITS:
        return None
    if place.startswith(BUILTIN_PREFIX) or is_url(place):
        raise ValueError(f"data.{split_name}: it must be {ONE_OF}, but got '{place}'.")
    try:
        path = local_path(place, Path())
    except ValueError as error:
        raise ValueError(f"data.{split_name}: {error}.") from error
    if path is not None and not path.exists():
        remedy = WHERE_FASHION_IS if _is_of_mnist(path) else f"Give {ONE_OF}"
        raise ValueError(f"data.{split_name}: {path} must exist, but it does not. {remedy}.")
    if path is not None and path.is_dir():
        return _idx_in(path, split_name) or path
    return path


def _is_of_mnist(path: Path) -> bool:
    return "mnist" in path.name.lower() or is_idx(path)


def _idx_in(folder: Path, split_name: str) -> Path | None:
    """Returns the split's images in a folder of IDX files; None for another folder. Raises
    `ValueError` where only other splits are."""
    found = sorted(file.name for file in folder.iterdir() if is_idx(file))
    wanted = f"{IDX_SPLITS[split_name]}-{IDX_IMAGES}"
    for name in (wanted, f"{wanted}.gz"):
        if name in found:
            return folder / name
    if found:
        raise ValueError(
            f"data.{split_name}: {folder} must hold {wanted}, or that with .gz, but of images it "
            f"has {', '.join(found)}. Name the file itself."
        )
    return None


def fingerprint(source: DataSource, split_name: str) -> str:
    """Returns the SHA-256 of what a split is read from: the files' bytes, or name, config and split
    of a hub data set. Raises `ValueError` when it is missing."""
    path = path_of(source, split_name)
    if path is None:
        name = [place_of(source, split_name), source.config_name, split_of(source, split_name)]
        return fingerprints.of_document(name)
    if path.is_file():
        files = [path, *([labels_beside(path, split_name)] if is_idx(path) else [])]
        return fingerprints.of_document([fingerprints.of_file(file) for file in files])
    found = sorted(file for file in path.rglob("*") if file.is_file())
    names = {file.relative_to(path).as_posix(): fingerprints.of_file(file) for file in found}
    return fingerprints.of_document([names, split_of(source, split_name)])


def split_of(source: DataSource, split_name: str) -> str:
    """Returns the split's name in the data set that it is read from."""
    return source.train_split if split_name == "train" else source.validation_split


def is_idx(path: Path) -> bool:
    """Returns whether a file is named as an IDX file of images (LeCun's format for MNIST)."""
    return IDX_IMAGES in path.name


def labels_beside(path: Path, split_name: str) -> Path:
    """Returns the labels' file of an IDX file of images. Raises `ValueError` when it is missing."""
    labels = path.with_name(path.name.replace(IDX_IMAGES, IDX_LABELS))
    if not labels.is_file():
        raise ValueError(
            f"data.{split_name}: the labels of {path} must be beside it, but {labels.name} is "
            "missing. Put both into one folder."
        )
    return labels
