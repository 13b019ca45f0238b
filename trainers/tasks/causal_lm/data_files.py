"""Which files a path names: itself, all that match a pattern, or those of one split in a folder as
it was cloned from a hub."""

import glob
from pathlib import Path
from typing import Any

from trainers.files import fingerprints
from trainers.tasks.causal_lm import rows


def files_of(path: Path, split: str, config_name: str | None) -> list[Path]:
    """Returns the files in the order in which they are read; a folder that `save_to_disk` wrote
    stands for itself. Raises `ValueError` for a folder without such a split, and
    `FileNotFoundError` for a pattern that nothing matches."""
    if path.is_dir() and not rows.is_stored(path):
        return _of_folder(path, split, config_name)
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    files = [one for one in found if one.is_file()]
    if not files:
        raise FileNotFoundError(2, "nothing matches", str(path))
    return files


def fingerprint(path: Path, split: str, config_name: str | None) -> str:
    """Returns the SHA-256 of the bytes that are read. Raises as `files_of` does."""
    files = files_of(path, split, config_name)
    if files == [path]:
        return rows.fingerprint(path, split)
    # by their names without the folder, so that a moved folder is the same data
    return fingerprints.of_document([[one.name, rows.fingerprint(one, split)] for one in files])


def _of_folder(path: Path, split: str, config_name: str | None) -> list[Path]:
    """What `datasets` would load, read here, so that each record has its file and line."""
    splits = _splits(path, config_name)
    if split not in splits:
        raise ValueError(
            f"{path} must hold the split '{split}', but got {', '.join(sorted(splits))}. "
            "Name one: data.train_split, data.validation_split."
        )
    return [Path(name) for name in splits[split]]


def _splits(path: Path, config_name: str | None) -> dict[str, Any]:
    import datasets

    try:
        found = datasets.load_dataset_builder(str(path), config_name).config.data_files
    except Exception as error:  # it raises many kinds; all mean that this is no data set for it
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} is a folder, so save_to_disk of `datasets` must have written it, or it must "
            f"be a data set as it was cloned from a hub, but got: {reason:.200} Name a file in it, "
            "such a folder, or its config: data.config_name."
        ) from error
    return dict(found or {})
