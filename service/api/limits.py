"""What no request gets past, and what every answer says of itself."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import Refused, problem

MOST_BYTES = 1024 * 1024
BODY_S = 30.0  # in which a body has to come: nobody waits for a caller who sends a byte a minute
EVERY_ANSWER: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "SAMEORIGIN",
}
# Where an answer does not say otherwise, it is no page, and may load and do nothing.
NO_PAGE = "default-src 'none'; frame-ancestors 'none'"
TOO_LARGE = (
    f"body: must have at most {MOST_BYTES:,} bytes, but got more. Leave out what the sweep does "
    "not need."
)
TOO_SLOW = (
    "body: must have come in {seconds:.0f} seconds, but got only a part of it. Send it again, or "
    "send less."
)


class Limits:
    """Wraps the app: refuses a body that is too large, whatever its length says, or that does not
    come, and adds headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in EVERY_ANSWER.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", NO_PAGE)
            await send(message)

        if _is_too_long(Headers(scope=scope).get("content-length", "")):
            answer = problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LARGE)
            await answer(scope, receive, labelled)
        else:
            await self._app(scope, _Body(receive), labelled)


class _Body:
    """Receives a request's body."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._seen = receive, 0
        self._ends_at = asyncio.get_running_loop().time() + BODY_S
        self._is_whole = False  # after which comes only that the caller goes, at any time

    async def __call__(self) -> Message:
        """Returns what comes next. Raises `Refused` where it is too much or too late."""
        try:
            async with asyncio.timeout_at(None if self._is_whole else self._ends_at):
                message = await self._receive()
        except TimeoutError:
            said = TOO_SLOW.format(seconds=BODY_S)
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, said) from None
        self._is_whole = not message.get("more_body", False)
        self._seen += len(message.get("body", b""))
        if self._seen > MOST_BYTES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LARGE)
        return message


def _is_too_long(length: str) -> bool:
    return length.isascii() and length.isdigit() and int(length[:20]) > MOST_BYTES
