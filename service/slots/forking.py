"""Starts the fork server of a sweep's own Ray, see `fork_server`. No Ray, so that it loads beside
the process that imports Ray."""

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from service.slots import fork_server
from service.slots.forked_worker import SOCKET

QUEUE = 1024  # workers that wait while the server loads or forks
# What a library would otherwise start a thread for as it is loaded, and a fork loses. Trials set
# torch's threads themselves.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class ForkServer:
    """The server as its starter sees it; None in place of a process where there is none."""

    def __init__(self, process: "subprocess.Popen[bytes] | None") -> None:
        self._process = process

    def tell(self, *values: Any) -> None:
        """Sends what the server waits for next; without one, workers are new processes."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            for value in values:
                self._process.stdin.write(pickle.dumps(value))


@contextmanager
def forking(folder: Path, load: Callable[[], None]) -> Iterator[ForkServer]:
    """Has a fork server in `folder` while the block runs, where the system forks safely. `load`
    imports what needs no Ray."""
    if sys.platform != "linux":
        yield ForkServer(None)
        return
    # Listens from here on: who asks while the server still loads waits, and is not refused.
    with socket.socket(socket.AF_UNIX) as listener, (folder / "forks.log").open("w") as log:
        listener.bind(str(folder / SOCKET))
        listener.listen(QUEUE)
        process = subprocess.Popen(
            [sys.executable, fork_server.__file__, str(listener.fileno())],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            bufsize=0,
            stdout=log,
            stderr=log,
            env=os.environ | ONE_THREAD,
        )
    with process:
        server = ForkServer(process)
        server.tell(sys.path, load)
        try:
            yield server
        finally:
            process.kill()  # it may still load; what it forked is Ray's to end
