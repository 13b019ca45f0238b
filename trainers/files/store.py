"""Files and folders that are complete or not there at all. Folders that are named by the hash of
their content are made once, by one process at a time."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Writes text in UTF-8 through a temporary file, so that a half-written one is never read."""
    # In the same folder, as a rename is atomic only within a file system: readers see the old file
    # or the new one.
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(text.encode())
    temporary.replace(path)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds the lock file `path` and yields True; other processes wait for it. With `wait` False it
    yields False at once when another process holds it."""
    # The lock belongs to the open file, so the kernel frees it when that is closed or its holder
    # dies: no lock is left behind. The file itself stays, as deleting it would let a process that
    # waits for it and one that makes it anew both hold "the" lock.
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Returns `folder`, made by `make(temporary folder)` if it is not there yet. Processes that
    want the same folder make it once; one that dies leaves nothing that looks finished."""
    # It appears by a rename, so where it is, it is complete: that needs no lock.
    if folder.is_dir():
        return folder
    with locked(folder.parent / f".{folder.name}.lock"):
        if folder.is_dir():  # made by the process that held the lock before
            return folder
        # What is left of others' attempts belongs to dead processes: a living one holds the lock.
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


def bytes_of(paths: Iterable[Path]) -> int:
    """Returns the bytes of files and of all in folders; what is gone meanwhile has none."""
    total = 0
    for path in paths:
        for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
            with suppress(FileNotFoundError):
                total += file.lstat().st_size if file.is_symlink() or file.is_file() else 0
    return total


def remove(path: Path) -> None:
    """Deletes a file, or a folder with all in it; does nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
