"""What waits for the tracking server: JSON Lines on disk, one file a writer, until it is delivered.

An entry holds its own time and place, so delivering it twice changes nothing: entries are delivered
at least once and recorded exactly once. Nothing here knows MLflow; `deliver` is an argument.
"""

import contextlib
import fcntl
import itertools
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from service.record.entries import _ADAPTER, Away, Deliver, Entry, Rejected, Unresolved

logger = logging.getLogger(__name__)

MAX_DELIVERY = 1000


class SpoolFile:
    """One writer's file in the spool, held under a lock for as long as the writer lives. Made on
    the first append.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{time.time_ns()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._descriptor: int | None = None
        self._done = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits in this file."""
        return self._descriptor is None or os.fstat(self._descriptor).st_size == 0

    def append(self, entries: Sequence[Entry]) -> None:
        """Writes whole lines at the end. Raises `OSError` when the disk refuses; nothing is half
        kept.
        """
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_CREAT | os.O_RDWR | os.O_APPEND
            self._descriptor = os.open(self._path, flags, 0o644)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        size = os.fstat(self._descriptor).st_size
        data = b"".join(_line(entry) for entry in entries)
        if os.write(self._descriptor, data) != len(data):
            os.ftruncate(self._descriptor, size)
            raise OSError(f"{self._path}: the disk took only a part of {len(data)} bytes")

    def first(self) -> tuple[list[Entry], int]:
        """Returns the oldest entries that wait, `MAX_DELIVERY` at most, and where they end."""
        if self.is_empty:
            return [], self._done
        with self._path.open("rb") as file:
            file.seek(self._done)
            lines = list(itertools.islice(file, MAX_DELIVERY))
        return [_ADAPTER.validate_json(line) for line in lines], self._done + sum(map(len, lines))

    def forget(self, end: int) -> None:
        """Drops what stands before `end`, because it was delivered."""
        assert self._descriptor is not None  # something was read from it
        self._done = end
        if os.fstat(self._descriptor).st_size == end:
            os.ftruncate(self._descriptor, 0)
            self._done = 0

    def release(self) -> None:
        """Gives the file up: what is left in it may be replayed by anyone, an empty one goes."""
        if self._descriptor is None:
            return
        if self.is_empty:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None


def replay_folder(folder: Path, deliver: Deliver) -> int:
    """Delivers the files whose writers are gone, oldest first; returns how many are still waiting.
    Raises `Away` when the server does not answer."""
    left = 0
    for path in sorted(folder.glob("*.jsonl")):
        with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            try:
                _replay(path, deliver)
            except Unresolved:
                left += 1
    return left


def _replay(path: Path, deliver: Deliver) -> None:
    entries, broken = _read(path)
    rejected = list(broken)
    for start in range(0, len(entries), MAX_DELIVERY):
        delivered = deliver(entries[start : start + MAX_DELIVERY])
        rejected += [_refused(found) for found in delivered]
    note_rejected(path.parent, rejected)
    path.unlink(missing_ok=True)


def note_rejected(folder: Path, lines: Sequence[str]) -> None:
    """Keeps what the server refused for good in `rejected.log`, with the reason, and warns."""
    if not lines:
        return
    logger.warning("tracking refused %d entries, kept in %s/rejected.log", len(lines), folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "rejected.log").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def _read(path: Path) -> tuple[list[Entry], list[str]]:
    """Returns the file's entries, and the lines that are none (a writer died while it wrote)."""
    entries: list[Entry] = []
    broken = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            entries.append(_ADAPTER.validate_json(line))
        except ValueError as error:
            broken.append(f"{line}\tnot an entry: {error}")
    return entries, broken


def _line(entry: Entry) -> bytes:
    return entry.model_dump_json().encode() + b"\n"


def _refused(found: Rejected) -> str:
    return f"{found.entry.model_dump_json()}\t{found.reason}"


class Outbox:
    """Takes entries at once and delivers them from a thread, in order. Each stands in the spool
    until it is delivered, so that a process that is killed loses nothing of what it put in. Nothing
    here raises into the caller or waits for the server, except `close`.

    interval_s: between deliveries; retry_s: between attempts while the server is away.
    """

    def __init__(
        self,
        folder: Path,
        deliver: Deliver,
        *,
        interval_s: float = 1.0,
        retry_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._spool = SpoolFile(folder)
        self._deliver = deliver
        self._interval_s, self._retry_s, self._clock = interval_s, retry_s, clock
        self._unwritten: list[Entry] = []  # what the disk did not take
        self._retry_at = 0.0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._abandoned = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread that delivers."""
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)
        self._thread.start()

    @property
    def is_empty(self) -> bool:
        """Whether everything that was put in has been delivered."""
        with self._lock:
            return self._spool.is_empty and not self._unwritten

    def put(self, entry: Entry) -> None:
        """Takes one entry; returns at once."""
        with self._lock:
            self._unwritten.append(entry)
            if len(self._unwritten) == 1:
                self._write()

    def cycle(self) -> None:
        """One round of delivery; what cannot be delivered waits for the next."""
        with self._lock:
            self._write()
        if self._clock() < self._retry_at:
            return
        try:
            self._deliver_spool()
            self._deliver_unwritten()
            self._retry_at = 0.0
        except Away as error:
            if not self._retry_at:
                logger.warning(
                    "tracking is away, keeping what comes in %s: %s", self._folder, error
                )
            self._retry_at = self._clock() + self._retry_s

    def _write(self) -> None:
        """Moves to the spool what is only in memory; a full disk leaves it there."""
        if not self._unwritten:
            return
        try:
            self._spool.append(self._unwritten)
        except OSError as error:
            logger.warning(
                "the spool of tracking cannot be written, keeping it in memory: %s", error
            )
        else:
            self._unwritten = []

    def _deliver_spool(self) -> None:
        while not self._abandoned:
            with self._lock:
                entries, end = self._spool.first()
            if not entries:
                return
            self._send(entries)
            with self._lock:
                if not self._abandoned:
                    self._spool.forget(end)

    def _deliver_unwritten(self) -> None:
        with self._lock:
            entries = list(self._unwritten)
        if entries:
            self._send(entries)
            with self._lock:
                del self._unwritten[: len(entries)]

    def _send(self, entries: list[Entry]) -> None:
        note_rejected(self._folder, [_refused(found) for found in self._deliver(entries)])

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._interval_s)
            if not self._abandoned:
                self.cycle()

    def close(self, timeout_s: float) -> bool:
        """Delivers what is left for at most `timeout_s`; the rest stays in the spool for whoever
        replays it. Returns whether everything was delivered. Raises `OSError` when not even the
        spool takes it.
        """
        deadline = self._clock() + timeout_s
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - self._clock()))
        stuck = self._thread is not None and self._thread.is_alive()
        if not stuck:
            self._retry_at = 0.0
            self.cycle()
        return self._give_up_the_rest()

    def _give_up_the_rest(self) -> bool:
        with self._lock:
            self._abandoned = True
            if self._unwritten:
                self._spool.append(self._unwritten)
            delivered = self._spool.is_empty
            self._spool.release()
        return delivered
