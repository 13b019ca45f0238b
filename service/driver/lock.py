"""One driver at a time for each sweep."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import JobError
from service.plan.places import driver_lock


@contextmanager
def sweep_lock(folder: Path) -> Iterator[None]:
    """Holds the sweep's folder for one driver. Raises `JobError` when another one has it.

    The system releases the lock when its process ends, however it ends, so the lock of a killed
    driver never keeps the next one out; what the file says is only for people.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = driver_lock(folder)
    with path.open("a+") as file:  # not "w": who is refused wants to read who has it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise JobError(
                f"sweep {folder.name}: one driver at a time must hold, but got one that runs "
                f"already: {file.read().strip() or 'unknown'}. Wait for it, or stop it first."
            ) from error
        file.truncate(0)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        file.flush()
        yield
