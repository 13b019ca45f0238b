"""What preparing has stored in a home. No torch."""

from pathlib import Path

from trainers.files.keyed import PREPARED
from trainers.files.store import locked

# What trials are trained from. The others are steps on the way, small and made again when needed.
INPUTS = ("data", "teachers", "students")


def prepared_folders(home: Path) -> list[Path]:
    """Returns the folder of each prepared input, and what processes that died left half made."""
    kinds = [home / PREPARED / kind for kind in INPUTS]
    found = [path for kind in kinds if kind.is_dir() for path in sorted(kind.iterdir())]
    return [path for path in found if path.is_dir() and not _is_being_made(path)]


def _is_being_made(folder: Path) -> bool:
    if not folder.name.startswith("."):
        return False
    # As `store.once` names what it makes, and its lock.
    with locked(folder.parent / f".{folder.name.split('.')[1]}.lock", wait=False) as is_free:
        return not is_free
