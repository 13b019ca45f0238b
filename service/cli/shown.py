"""What a call from Python or a notebook shows of a sweep, beside handing its events on. Rich is
loaded where something is shown."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.actions.run_result import OnEvent, RunEvent
    from service.cli.display import WatchDisplay


@contextmanager
def run_shown(
    display: bool, on_event: "OnEvent | None", stop: threading.Event | None
) -> "Iterator[tuple[OnEvent, threading.Event]]":
    """Yields what takes a run's events, and what is set when the user wants it to stop."""
    from service.cli.app import Screen
    from service.cli.display import RunDisplay

    with RunDisplay(Screen(quiet=not display), stop=stop) as shown:
        yield _both(shown, on_event), shown.stop


@contextmanager
def watch_shown(on_event: "OnEvent | None") -> "Iterator[OnEvent]":
    """Yields what takes the events of a sweep that runs elsewhere."""
    from service.cli.app import Screen
    from service.cli.display import WatchDisplay

    with WatchDisplay(Screen()) as shown:
        yield _both(shown, on_event)


def _both(shown: "WatchDisplay", on_event: "OnEvent | None") -> "OnEvent":
    def take(event: "RunEvent") -> None:
        shown.on_event(event)
        if on_event is not None:
            on_event(event)

    return take
