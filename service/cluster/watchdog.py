"""Starts a driver again that died without a word. The process that does it is the Ray job
itself."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# A driver that ended on purpose: done (0), stopped by the user (130), or an error that would come
# again.
ON_PURPOSE = (0, 2, 3, 4, 5, 6, 130)


@dataclass(frozen=True)
class Watched:
    """How the driver ended at last, and how often it was started again."""

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
        """Passes a signal on."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
