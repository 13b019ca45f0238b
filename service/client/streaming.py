"""A sweep's events as the service sends them. Where the service goes away, they go on where they
stopped once it is back."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from service.client.sending import Away, Request, answering, no_service, send
from service.wire import EVENTS_TYPE
from service.workspace import Server

SILENT_S = 60.0  # the service says every 15 s that it is there
RETRY_S = 2.0


@dataclass(frozen=True)
class Sent:
    """What the service sent. `name`: empty for a line of the sweep's log, else `end` or `problem`,
    which are the last; `place`: what the service goes on behind, empty where more belongs to it."""

    name: str
    data: str
    place: str


def stream(server: Server, path: str, on_away: Callable[[], None]) -> Iterator[Sent]:
    """Yields what the service sends of a sweep until its driver has ended. on_away: called when the
    service went away. Raises as `service.client.asking.ask`, also where the service was not there
    at all."""
    place, is_told, was_there = "", False, False
    while True:
        try:
            for part in _parts(server, path, place):
                was_there, is_told = True, False
                yield from part
                place = part[-1].place or place
                if part[-1].name:
                    return
        except Away:
            if not was_there:
                raise
            if not is_told:
                on_away()
            is_told = True
        time.sleep(RETRY_S)


def _parts(server: Server, path: str, place: str) -> Iterator[list[Sent]]:
    """Yields what belongs together: what came of it alone would come again."""
    headers = {"Accept": EVENTS_TYPE} | ({"Last-Event-ID": place} if place else {})
    request = Request("GET", path, headers=headers, silent_s=SILENT_S, is_stream=True)
    with closing(send(server, request)) as answer, answering(server):
        if not answer.headers.get("Content-Type", "").startswith(EVENTS_TYPE):
            raise no_service(server, answer)
        part: list[Sent] = []
        for sent in _events(answer.iter_lines()):
            part.append(sent)
            if sent.place or sent.name:
                yield part
                part = []


def _events(lines: Iterable[bytes]) -> Iterator[Sent]:
    """Yields the events of a stream that have data; its comments say only that it stands."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.decode().partition(": ")
        fields |= {name: value}
        if not line and "data" in fields:
            yield Sent(fields.get("event", ""), fields["data"], fields.get("id", ""))
        fields = fields if line else {}
