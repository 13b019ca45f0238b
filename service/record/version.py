"""Whether a store has changed since it was read."""

import sqlite3
from contextlib import suppress
from threading import Lock

from service.home import SQLITE, sqlite_path


class StoreVersion:
    """The version of the store at `uri`. Only a SQLite file has one, which SQLite itself counts, by
    one connection that stays open, for all threads."""

    def __init__(self, uri: str) -> None:
        self._path = sqlite_path(uri) if uri.startswith(SQLITE) else None
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def __call__(self) -> tuple[int, int] | None:
        """Returns what is another value after each change that anybody commits; None where that is
        not known."""
        if self._path is None:
            return None
        with self._lock, suppress(OSError, sqlite3.Error):
            inode = self._path.stat().st_ino
            if self._connection is None or inode != self._inode:  # another file took its place
                self.close()
                self._connection = sqlite3.connect(
                    f"{self._path.as_uri()}?mode=ro", uri=True, check_same_thread=False
                )
                self._inode = inode
            (count,) = self._connection.execute("pragma data_version").fetchone()
            return inode, count
        return None

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
