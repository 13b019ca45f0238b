"""What no request gets past, and what every answer says of itself."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import Refused, problem

MOST_BYTES = 1024 * 1024
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


class Limits:
    """Wraps the app: refuses a body that is too large where it is, whatever its length says, and
    adds headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MOST_BYTES:
                raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LARGE)
            return message

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
            await self._app(scope, counted, labelled)


def _is_too_long(length: str) -> bool:
    return length.isascii() and length.isdigit() and int(length[:20]) > MOST_BYTES
