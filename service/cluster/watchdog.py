"""Restarts a driver that died without an exit code of its own. The process that does so is the Ray
job itself; it loads neither Ray nor torch, so that little can go wrong in it."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# A driver that ended on purpose: done (0), stopped by the user (130), or with an error that would
# come again.
ON_PURPOSE = (0, 2, 3, 4, 5, 6, 130)


@dataclass(frozen=True)
class Watched:
    """How the driver ended in the end, and how often it was started again."""

    exit_code: int
    restarts: int


def watch_over(start: Callable[[], int], max_restarts: int) -> Watched:
    """Runs `start` (which returns an exit code, negative for a signal) until it ends on purpose, or
    has been started again `max_restarts` times."""
    restarts = 0
    while True:
        code = start()
        if code in ON_PURPOSE or restarts == max_restarts:
            return Watched(code, restarts)
        restarts += 1


class Child:
    """A driver as a process of its own; signals to the watchdog are passed on to it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = [sys.executable, *command]
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Starts it and returns its exit code."""
        self._process = subprocess.Popen(self._command)
        return self._process.wait()

    def signal(self, number: int) -> None:
        """Passes a signal on; does nothing when no driver runs. Called from a signal handler, so it
        takes no lock: `poll` reaps the process at most once."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
