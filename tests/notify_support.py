"""A sweep that tells others, and what is said of those that cannot be told."""

from typing import Any

from fakes import make_sweep_plan

from service.driver.notify import Notifier
from service.events import DriverEvent, Notice


def tell(environment: dict[str, str], *events: DriverEvent, **told: Any) -> list[str]:
    """The notices of a sweep that has these events, and tells those named."""
    said: list[str] = []

    def on_event(event: DriverEvent) -> None:
        assert isinstance(event, Notice)
        said.append(event.text)

    with Notifier(make_sweep_plan(notify=told), on_event, environment) as notifier:
        for event in events:
            notifier.take(event)
    return said
