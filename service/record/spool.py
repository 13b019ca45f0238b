"""What waits for the tracking server: JSON Lines on disk, one file for each writer.

An entry holds its own time and place, so delivering it twice changes nothing: entries are delivered
at least once and recorded exactly once. Nothing here knows MLflow; `deliver` is an argument.

Why a process that is killed between any two lines loses nothing that was put in:

* An entry is in its file before anybody tries to deliver it (where the disk takes it: else it
  waits in memory), and leaves it only after `deliver` returned. Killed before that, the file still
  has it; killed between delivery and `forget`, it is delivered a second time. Files are not
  fsynced: the page cache outlives the process, and a machine that loses power may lose the last
  seconds of a record, not the training.
* A file belongs to the process that holds its lock. The kernel gives the lock back when the process
  ends, however it ends, so "may I replay this file?" is "do I get its lock?": no process ids that
  can be reused, no timeouts, and it works for all processes on one disk.
* A writer killed inside a write leaves a torn last line. It was never acknowledged as a whole, is
  recognised because it is no JSON, and kept in `rejected.log`.
"""

import fcntl
import itertools
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from service.record.entries import (
    ENTRY_ADAPTER,
    Away,
    Deliver,
    Entry,
    Rejected,
    Unresolved,
)
from trainers.files.lines import numbered_lines

logger = logging.getLogger(__name__)

MAX_DELIVERY = 1000


class SpoolFile:
    """One writer's file in the spool, locked for as long as the writer lives. Made on the first
    append.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder  # the file in it, once that is made
        self._descriptor: int | None = None
        self._done = 0  # bytes at the beginning that were delivered

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits in this file."""
        return self._descriptor is None or os.fstat(self._descriptor).st_size == 0

    def append(self, entries: Sequence[Entry]) -> None:
        """Writes the entries at the end, a line each. Raises `OSError` when the disk refuses; then
        none of them is in the file.
        """
        if self._descriptor is None:
            self._path, self._descriptor = _make_file(self._folder)
        size = os.fstat(self._descriptor).st_size
        data = b"".join(_line(entry) for entry in entries)
        # One write for all lines. A full disk takes a part of it without an error: cut off, so that
        # the next append does not write on behind half a line.
        if os.write(self._descriptor, data) != len(data):
            os.ftruncate(self._descriptor, size)
            raise OSError(f"{self._path}: the disk took only a part of {len(data)} bytes")

    def first(self) -> tuple[list[Entry], list[str], int]:
        """Returns the oldest entries that wait, `MAX_DELIVERY` at most, the lines among them that
        are none, and where they end."""
        if self._descriptor is None or self.is_empty:
            return [], [], self._done
        # The open file itself, also where its name was removed meanwhile. Reading moves the
        # position that both descriptors share; appending (O_APPEND) does not ask for it.
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(self._done)
            lines = list(itertools.islice(file, MAX_DELIVERY))
        return *_entries(b"".join(lines)), self._done + sum(map(len, lines))

    def forget(self, end: int) -> None:
        """Drops what is before `end`, because it was delivered."""
        assert self._descriptor is not None  # something was read from it
        # Only an offset in memory moves; the file is emptied once all of it was delivered. A writer
        # killed before that has its delivered entries replayed, which changes nothing.
        self._done = end
        if os.fstat(self._descriptor).st_size == end:
            os.ftruncate(self._descriptor, 0)
            self._done = 0

    def release(self) -> None:
        """Gives the file up: what is left in it may be replayed by anyone, an empty one is
        removed."""
        if self._descriptor is None:
            return
        # Removed while the lock is held: nobody can have begun to replay it.
        if self.is_empty:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None


def _make_file(folder: Path) -> tuple[Path, int]:
    """Returns a new file in the spool and its descriptor, which holds its lock."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        # The time first: files sorted by name are sorted by age, so that a run's creation is
        # replayed before the metrics that another process wrote of it later.
        path = folder / f"{time.time_ns()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # A replay that came between the two lines above found an empty file that nobody held, and
        # removed it: what is written to the descriptor would be in no folder.
        if path.exists():
            return path, descriptor
        os.close(descriptor)


def replay_folder(folder: Path, deliver: Deliver) -> int:
    """Delivers the files whose writers are gone, oldest first; returns how many are still waiting,
    one that cannot be read among them. Raises `Away` when the server does not answer."""
    left = 0
    for path in sorted(folder.glob("*.jsonl")):
        try:
            left += not _replay_unless_held(path, deliver)
        except FileNotFoundError:
            continue  # another process replayed it after the listing
        except OSError as error:
            logger.warning("the record in %s waits, it cannot be read: %s", path, error)
            left += 1
    return left


def _replay_unless_held(path: Path, deliver: Deliver) -> bool:
    """Delivers a file unless its writer lives, who delivers it. Returns whether nothing is left to
    be done here."""
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        try:
            _replay(path, deliver)
        except Unresolved:
            return False  # its run's creation is in a file whose writer lives
    return True


def _replay(path: Path, deliver: Deliver) -> None:
    """Delivers all of a file, then removes it: broken off before that, it is replayed again."""
    entries, broken = _entries(path.read_bytes())
    rejected = list(broken)
    unresolved: Unresolved | None = None
    for start in range(0, len(entries), MAX_DELIVERY):
        try:
            delivered = deliver(entries[start : start + MAX_DELIVERY])
        except Unresolved as error:
            unresolved = error  # what is behind it may be of other runs
        else:
            rejected += [_refused(found) for found in delivered]
    if unresolved is not None:
        raise unresolved
    note_rejected(path.parent, rejected)
    path.unlink(missing_ok=True)


def note_rejected(folder: Path, lines: Sequence[str]) -> None:
    """Keeps what the server refused for good in `rejected.log`, with the reason, and warns."""
    if not lines:
        return
    path = folder / "rejected.log"
    logger.warning("tracking refused %d entries, kept in %s: %s", len(lines), path, lines[0][-300:])
    text = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), "wb") as file:
            file.write(text)
    except OSError as error:
        logger.error("%s cannot be written, so they are lost: %s", path, error)


def _entries(content: bytes) -> tuple[list[Entry], list[str]]:
    """Returns the entries in lines of the spool, and the lines that are none: a writer died while
    it wrote, or the file was damaged."""
    entries: list[Entry] = []
    broken = []
    for _, line in numbered_lines(content):
        try:
            entries.append(ENTRY_ADAPTER.validate_json(line))
        except ValueError as error:
            broken.append(f"{line.decode(errors='replace')}\tnot an entry: {error}")
    return entries, broken


def _line(entry: Entry) -> bytes:
    return entry.model_dump_json().encode() + b"\n"


def note_refused(folder: Path, found: Sequence[Rejected]) -> None:
    """Keeps entries that the server refused as `note_rejected` does."""
    note_rejected(folder, [_refused(one) for one in found])


def _refused(found: Rejected) -> str:
    return f"{found.entry.model_dump_json()}\t{found.reason}"


class Outbox:
    """Takes entries at once and delivers them from a thread, in order. Each is in the spool until
    it is delivered, so that a process that is killed loses nothing of what it put in. Nothing here
    raises into the caller or waits for the server, except `close`.

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
        self._unwritten: list[Entry] = []  # what the disk did not take; always newer than the file
        self._retry_at = 0.0
        # Guards the spool file and `_unwritten`. Never held while the server is asked: `put` is
        # called between two training steps.
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._abandoned = False  # `close` has given the file up; a late thread may not touch it
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
            # More than one: the disk refused the one before. It is tried again once an interval,
            # not at every training step, and never out of order.
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
            # Once for each absence, not once for each attempt.
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
                entries, broken, end = self._spool.first()
            if not entries and not broken:
                return
            # Without the lock: meanwhile `put` may append behind `end`, which `forget` keeps.
            note_rejected(self._folder, broken)
            self._send(entries)
            with self._lock:
                if not self._abandoned:
                    self._spool.forget(end)

    def _deliver_unwritten(self) -> None:
        with self._lock:
            entries = list(self._unwritten)
        if entries:
            self._send(entries)
            # By count, not all: `put` may have added to the list since.
            with self._lock:
                del self._unwritten[: len(entries)]

    def _send(self, entries: list[Entry]) -> None:
        if entries:
            note_refused(self._folder, self._deliver(entries))

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
        # A stuck thread waits for the server: this one would do the same.
        if not stuck:
            self._retry_at = 0.0
            self.cycle()
        return self._give_up_the_rest()

    def _give_up_the_rest(self) -> bool:
        with self._lock:
            # From here on a thread that comes back late neither reads nor truncates the file, which
            # may be another process's by then; what it delivered is delivered again.
            self._abandoned = True
            if self._unwritten:
                self._spool.append(self._unwritten)
            delivered = self._spool.is_empty
            self._spool.release()
        return delivered
