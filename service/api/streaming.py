"""A sweep's events as they come, as server-sent events. A caller that comes again with the last id
that it saw gets what it missed."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool

from service.accounts.users import User
from service.actions.hosted import Hosted
from service.errors import SweepError
from service.events import from_line
from service.wire import PROBLEM
from trainers.files.urls import without_secrets

POLL_S = 0.4
QUIET_S = 15.0  # after which a comment tells that the line still stands
RETRY_MS = 2000


def as_json(line: str) -> str:
    """Returns a line of a driver's log as `logs --json` prints it."""
    safe = without_secrets(line)
    return safe if from_line(safe) is not None else json.dumps({"text": safe})


async def event_stream(hosted: Hosted, user: User, sweep_id: str, after: str) -> AsyncIterator[str]:
    """Yields the events behind the place `after`, and at the end how the sweep is doing then."""
    yield f"retry: {RETRY_MS}\n\n"
    log, last = hosted.news_of(sweep_id), time.monotonic()
    while True:
        try:
            news = await run_in_threadpool(log.read, after)
        except SweepError as error:
            yield _event(PROBLEM, json.dumps({"detail": str(error)}), after)
            return
        after = news.part.place
        if news.part.lines:
            yield "".join(_event("", as_json(line), "") for line in news.part.lines[:-1])
            yield _event("", as_json(news.part.lines[-1]), after)
            last = time.monotonic()
        if news.is_over:
            status = await run_in_threadpool(hosted.status, user, sweep_id)
            yield _event("end", json.dumps(status.to_json()), after)
            return
        if time.monotonic() - last > QUIET_S:
            yield ": still here\n\n"
            last = time.monotonic()
        await asyncio.sleep(POLL_S)


def _event(name: str, data: str, place: str) -> str:
    """Returns an event; only the last of a part has a place, behind all of it."""
    head = f"event: {name}\n" if name else ""
    tail = f"id: {place}\n" if place else ""
    return f"{head}{tail}data: {data}\n\n"
