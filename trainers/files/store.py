"""Files and folders that are there whole or not at all. Folders named by the hash of what is in
them are made once, by one process at a time."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Writes text in UTF-8 through a temporary file, so that a half-written one is never read."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(text.encode())
    temporary.replace(path)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds the lock file `path` and yields True; other processes wait here. With `wait` False it
    yields False at once when another holds it. The kernel frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Returns `folder`, made by `make(temporary folder)` when it is not there yet. Two processes
    that want the same folder make it once; one that dies leaves nothing that looks finished."""
    if folder.is_dir():
        return folder
    with locked(folder.parent / f".{folder.name}.lock"):
        if folder.is_dir():
            return folder
        for left in folder.parent.glob(f".{folder.name}.*.tmp"):
            shutil.rmtree(left)
        temporary = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
        temporary.mkdir()
        try:
            make(temporary)
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder
