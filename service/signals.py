"""Turns Ctrl-C and SIGTERM into an event that a running sweep looks at.

Ray installs handlers of its own when it starts, in C++ and without a word, so these have to be
installed again afterwards: whoever shows the sweep's events does so with each of them.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Of a process whose sweep was stopped by its user: what a shell makes of Ctrl-C.
STOPPED_EXIT_CODE = 130


class StopOnSignal:
    """Sets `stop` at the first Ctrl-C or SIGTERM and raises `KeyboardInterrupt` at the second. Does
    nothing where it is entered in another thread than the main one, in which Python allows no
    handlers. then: what the second one does, in words."""

    def __init__(
        self,
        say: Callable[[str], None],
        stop: threading.Event | None = None,
        *,
        then: str = "ends at once",
    ) -> None:
        self.stop = stop or threading.Event()
        self._say, self._then = say, then
        self._handlers_before: dict[int, Any] = {}

    def __enter__(self) -> "StopOnSignal":
        if threading.current_thread() is threading.main_thread():
            self._handlers_before = {number: signal.getsignal(number) for number in SIGNALS}
        self.install()
        return self

    def __exit__(self, *reason: object) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Makes this the handler. Does nothing in other threads than the main one, which Python
        does not allow it."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                # Equal, not the same: each look at a method makes another object.
                if signal.getsignal(number) != self._handle:
                    signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Raised in the main thread, wherever that is: what runs there is left as it is, and the
        # next driver takes it up from the study.
        if self.stop.is_set():
            raise KeyboardInterrupt("stopped at once by a second signal")
        self.stop.set()
        self._say(f"stopping: trials end at their next step; Ctrl-C again {self._then}")
