"""One driver at a time for each sweep, and who it is."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from service.errors import JobError
from service.home import sweeps_folder
from service.plan.places import driver_lock, plan_file
from service.plan.plan import SweepPlan
from trainers.files.json_files import checked_object, parse_json

TRIES, TRY_AGAIN_S = 3, 0.05


@dataclass(frozen=True)
class Holder:
    """The process that drives a sweep."""

    host: str
    pid: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextmanager
def sweep_lock(folder: Path) -> Iterator[None]:
    """Holds the sweep's folder for one driver. Raises `JobError` when another one has it.

    The system releases the lock when its process ends, however it ends, so the lock of a killed
    driver never keeps the next one out; what the file says is only for people.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = driver_lock(folder)
    with path.open("a+") as file:  # not "w": who is refused wants to read who has it
        if not _is_free(file):
            file.seek(0)
            raise JobError(
                f"sweep {folder.name}: one driver at a time must hold, but got one that runs "
                f"already: {file.read().strip() or 'unknown'}. Wait for it, or stop it first: "
                f"kd-sweep stop {folder.name}."
            )
        file.truncate(0)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        file.flush()
        yield


def plan_in(folder: Path) -> SweepPlan | None:
    """Returns the plan that the sweep's newest driver runs; None where an older version drove it,
    or another one did."""
    try:
        return SweepPlan.model_validate_json(plan_file(folder).read_bytes())
    except (OSError, ValueError):
        return None


def plans_here(home: Path, *, driven: bool) -> list[SweepPlan]:
    """Returns the plans of the sweeps that were begun in the home folder, the newest driver's
    first: also of those whose drivers did not come far enough to make a record. driven: only those
    that have a driver now."""
    locks = sweeps_folder(home).glob("*/driver.lock")
    newest = sorted(locks, key=lambda path: path.stat().st_mtime, reverse=True)
    folders = [lock.parent for lock in newest]
    plans = [plan_in(one) for one in folders if not driven or holder_of(one) is not None]
    return [plan for plan in plans if plan is not None]


def _is_free(file: TextIO) -> bool:
    """Locks the file if no other driver has; returns whether it did."""
    for _ in range(TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(TRY_AGAIN_S)  # perhaps somebody only asks who has it
        else:
            return True
    return False


def holder_of(folder: Path) -> Holder | None:
    """Returns who holds the sweep's folder, None when nobody does. The file's text alone says
    nothing: a driver that was killed leaves it, and its process id may be another process's by
    now. Raises `JobError` when somebody does, and the file does not say who."""
    path = driver_lock(folder)
    if not path.exists():
        return None
    with path.open("r") as file:
        try:
            # Shared, so that two who ask at once do not take each other for a driver.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                found = checked_object(
                    parse_json(file.read(), path), path, {"host": str, "pid": int}
                )
            except ValueError as error:
                raise JobError(
                    f"{error} A driver holds this file: end that process by hand."
                ) from error
            return Holder(str(found["host"]), int(str(found["pid"])))
    return None
