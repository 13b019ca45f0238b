"""Where the checkpoints of one trial are kept: a folder, or an object store that fsspec knows. A
shelf has named sets of files; a set that is not complete can be told by its missing last file."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trainers.files.urls import file_system, is_url

Fill = Callable[[Path], None]


class Shelf(Protocol):
    """Sets of files by name. Every method raises `OSError` when the storage refuses or fails."""

    def names(self) -> list[str]:
        """Returns the names of all sets, in order."""

    def put(self, name: str, fill: Fill, *, last: str) -> None:
        """Stores what `fill` writes into the folder that it is called with; the file `last`, the
        proof that a set is complete, is stored after the others."""

    def begin(self, name: str) -> None:
        """Makes room for a set that several processes write; to be called by one of them, first."""

    def part(self, name: str) -> AbstractContextManager[Path]:
        """Yields a folder of this process's own, whose files become a part of the set that was
        begun; the names of all parts' files differ."""

    def complete(self, name: str) -> None:
        """Makes a set, of which all parts are there, one that can be had; to be called by one."""

    def text(self, name: str, file: str) -> str:
        """Returns the content of a small file of the set."""

    def get(self, name: str) -> AbstractContextManager[Path]:
        """Yields a folder with the set's files."""

    def remove(self, name: str) -> None:
        """Deletes the set."""

    def clear(self) -> None:
        """Deletes all sets."""


def shelf_at(place: Path | str) -> Shelf:
    """Returns the shelf in a folder, or at an fsspec URL such as s3://bucket/prefix."""
    return UrlShelf(place) if isinstance(place, str) and is_url(place) else FolderShelf(Path(place))


def move(old: Path | str, new: Path | str) -> None:
    """Moves all sets of one shelf to another of the same kind. A folder goes in one step, and only
    where the other one is still empty; a move in an object store that was broken off is continued
    by calling this again."""
    if isinstance(new, Path):
        if shelf_at(old).names() and not shelf_at(new).names():
            new.parent.mkdir(parents=True, exist_ok=True)
            Path(old).rename(new)
        return
    for name in shelf_at(old).names():
        _move_set(f"{old}/{name}", f"{new}/{name}")


def _move_set(old: str, new: str) -> None:
    """Copies a set's files and then removes them: broken off anywhere, each file is still in one of
    the two places."""
    system, source = file_system(old)
    target = file_system(new)[1]
    system.makedirs(target, exist_ok=True)
    for path in system.ls(source, detail=False):
        system.cp_file(path, f"{target}/{path.rsplit('/', 1)[-1]}")
    _remove(system, source)


@dataclass(frozen=True)
class FolderShelf:
    """A folder of a file system: a set appears under its name with one rename."""

    folder: Path

    def names(self) -> list[str]:
        """See `Shelf`."""
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if path.name[0] != ".")

    def put(self, name: str, fill: Fill, *, last: str) -> None:
        """See `Shelf`."""
        # `names` passes over names with a dot, and a process that died may have left one behind.
        temporary = self.folder / f".{name}.{os.getpid()}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            fill(temporary)
            self._show(temporary, name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def begin(self, name: str) -> None:
        """See `Shelf`."""
        for left in self.folder.glob(".*.parts"):  # by a writer that died, or had no room
            shutil.rmtree(left, ignore_errors=True)
        self._begun(name).mkdir(parents=True)

    @contextmanager
    def part(self, name: str) -> Iterator[Path]:
        """See `Shelf`."""
        with tempfile.TemporaryDirectory(dir=self._begun(name)) as made:
            yield Path(made)
            for path in Path(made).iterdir():
                path.replace(self._begun(name) / path.name)

    def complete(self, name: str) -> None:
        """See `Shelf`."""
        self._show(self._begun(name), name)

    def text(self, name: str, file: str) -> str:
        """See `Shelf`."""
        return (self.folder / name / file).read_text()

    @contextmanager
    def get(self, name: str) -> Iterator[Path]:
        """See `Shelf`."""
        yield self.folder / name  # the set itself, not a copy

    def remove(self, name: str) -> None:
        """See `Shelf`."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def clear(self) -> None:
        """See `Shelf`."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _show(self, made: Path, name: str) -> None:
        # A rename replaces no folder that has files. Between the two lines a set of this name,
        # written before the trial was taken up again, is missing, never half there.
        self.remove(name)
        made.replace(self.folder / name)

    def _begun(self, name: str) -> Path:
        # `names` passes over names with a dot
        return self.folder / f".{name}.parts"


@dataclass(frozen=True)
class UrlShelf:
    """An object store, which renames nothing: files are written on this node's disk, then sent one
    by one."""

    url: str

    def names(self) -> list[str]:
        """See `Shelf`."""
        system, root = file_system(self.url)
        if not system.isdir(root):
            return []
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in system.ls(root, detail=False))

    def put(self, name: str, fill: Fill, *, last: str) -> None:
        """See `Shelf`."""
        with tempfile.TemporaryDirectory(prefix="kd-checkpoint-") as made:
            fill(Path(made))
            self.begin(name)
            self._send(made, sorted(os.listdir(made), key=lambda file: file == last), name)

    def begin(self, name: str) -> None:
        """See `Shelf`."""
        # An older set of this name goes first: its last file would vouch for the new files.
        self.remove(name)
        system, root = file_system(self.url)
        system.makedirs(f"{root}/{name}", exist_ok=True)

    @contextmanager
    def part(self, name: str) -> Iterator[Path]:
        """See `Shelf`."""
        with tempfile.TemporaryDirectory(prefix="kd-checkpoint-") as made:
            yield Path(made)
            self._send(made, os.listdir(made), name)

    def complete(self, name: str) -> None:
        """See `Shelf`."""  # the part that is added last says that all are there

    def text(self, name: str, file: str) -> str:
        """See `Shelf`."""
        system, root = file_system(self.url)
        return str(system.cat_file(f"{root}/{name}/{file}").decode())

    @contextmanager
    def get(self, name: str) -> Iterator[Path]:
        """See `Shelf`."""
        system, root = file_system(self.url)
        with tempfile.TemporaryDirectory(prefix="kd-checkpoint-") as made:
            for path in system.ls(f"{root}/{name}", detail=False):
                system.get_file(path, f"{made}/{path.rsplit('/', 1)[-1]}")
            yield Path(made)

    def remove(self, name: str) -> None:
        """See `Shelf`."""
        system, root = file_system(self.url)
        _remove(system, f"{root}/{name}")

    def clear(self) -> None:
        """See `Shelf`."""
        _remove(*file_system(self.url))

    def _send(self, made: str, files: Sequence[str], name: str) -> None:
        """Puts files of a folder into a set, in this order."""
        system, root = file_system(self.url)
        for file in files:
            system.put_file(f"{made}/{file}", f"{root}/{name}/{file}")


def _remove(system: Any, path: str) -> None:
    if system.exists(path):
        system.rm(path, recursive=True)
