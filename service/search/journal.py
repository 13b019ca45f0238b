"""Opens the storage of an Optuna study: a journal file, checked line by line, or a database.

A journal is JSON Lines. Each change of the study is one line, appended in one write and flushed to
disk before the call returns; opening a journal replays all of them. So a line is a transaction: a
kill leaves complete lines and at most one torn line at the end, of a change that nobody was told
had happened. Changes that belong together are several lines: `tell` and `recover` are written for a
kill between any two.

Importing this file imports Optuna.
"""

import json
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal._storage import JournalStorageReplayResult

from service.errors import JobError, PlanError
from trainers.files.urls import is_url


def open_storage(storage: str) -> Any:
    """Returns the Optuna storage at `storage`: a URL with `://` is a database, all else the path of
    a journal file, which is made when absent. For the one writer of a study: it repairs the
    journal.

    Raises `JobError` for a journal broken in the middle, `PlanError` for an unreachable database.
    """
    if is_url(storage):
        return _open_database(storage)
    path = Path(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        _repair(path)
    # A writer that was killed while it wrote leaves its lock; the next would wait 30 s for it. It
    # may be removed because only one driver at a time opens a sweep's study: it holds the sweep's
    # own lock, which ends with its process.
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    return _open_journal(path)


def read_storage(storage: str) -> Any:
    """Returns the Optuna storage at `storage` for reading beside its writer; changes no file.

    Raises `JobError` when there is no such journal, or it is broken; `PlanError` as `open_storage`.
    """
    if is_url(storage):
        return _open_database(storage)
    path = Path(storage)
    if not path.exists():
        raise JobError(f"{path}: the study's journal must exist, but got no such file.")
    # Only to raise for a broken journal. A torn last line stays: its writer may be writing it now.
    _sound_bytes(path)
    return _open_journal(path)


def _open_journal(path: Path) -> Any:
    # Optuna's other lock is a symbolic link, which not every file system has.
    lock = optuna.storages.journal.JournalFileOpenLock(str(path))
    backend = optuna.storages.journal.JournalFileBackend(str(path), lock_obj=lock)
    try:
        return optuna.storages.JournalStorage(backend)
    except Exception as error:  # Optuna runs into a changed record in many ways
        line = _damaged_line(path)
        raise JobError(
            f"{path}: every line of a study's journal must be as it was written, but line {line} "
            f"got {type(error).__name__}: {error}. Restore the file from a copy, or keep what is "
            f"before it: head -n {line - 1} {path.name} > repaired."
        ) from error


def _damaged_line(path: Path) -> int:
    """Returns the number of the first line that cannot be replayed: a record, but another one than
    was written."""
    replayed = JournalStorageReplayResult("")
    with path.open("rb") as file:
        for line in file:
            try:
                replayed.apply_logs([json.loads(line)])
            except Exception:
                break
    return int(replayed.log_number_read)


def _open_database(url: str) -> Any:
    try:
        return optuna.storages.RDBStorage(url)
    except Exception as error:  # SQLAlchemy, its drivers and Alembic have errors of their own
        reason: BaseException = error
        remedy = "Start it, or correct the URL."
        if isinstance(error, ImportError):
            reason = error.__cause__ or error  # which names the driver
            remedy = "Install it, or pip install 'kd-sweep[postgres]' and write postgresql://…"
        raise PlanError(
            f"storage: the study's database must be reachable, but got {type(reason).__name__} "
            f"from {url}: {reason}. {remedy}"
        ) from error


def _repair(path: Path) -> None:
    """Cuts off a last line that its writer did not finish: Optuna would write on behind it and
    leave a line that nobody can read. What was never finished was never acknowledged."""
    sound = _sound_bytes(path)
    # Cut off in one step, and only the tail: a kill in between leaves the file as it was or sound.
    if sound < path.stat().st_size:
        with path.open("rb+") as file:
            file.truncate(sound)


def _sound_bytes(path: Path) -> int:
    """Returns the length of the journal without an unfinished last line."""
    sound = 0
    # A line that is no record is torn if it is the last, and damage if others follow it: those may
    # build on what it said, so nothing is skipped.
    broken: int | None = None
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if broken is not None:
                raise JobError(
                    f"{path}: every line of a study's journal must be one JSON record, but line "
                    f"{broken} is not, and lines follow it. Restore the file from a copy, or keep "
                    f"what is before it: head -n {broken - 1} {path.name} > repaired."
                )
            if _is_record(line):
                sound += len(line)
            else:
                broken = number
    return sound


def _is_record(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "op_code" in record
