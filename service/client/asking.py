"""Questions to a service: each is a route of its API (`service/api/routes.py`), and answered as the
type that the action behind it returns, or by the error that it raises."""

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

from service.client.sending import WAITS_S, Params, Request, no_service, send
from service.wire import API, MEDIA_TYPE, unpack
from service.workspace import Server

if TYPE_CHECKING:
    from requests import Response

T = TypeVar("T")
ROWS = 1000  # in a part of a list


def route(*parts: str | int) -> str:
    """Returns the path of a route of the API, each part as it has to be written there."""
    return "/".join([API, *(quote(str(part), safe="") for part in parts)])


def ask(server: Server, path: str, kind: type[T], params: Params | None = None) -> T:
    """Returns the answer to a question. kind: its type. Raises what the action behind the route
    raises, and `JobError` for a service that does not answer, is of another version, or does not
    know the token."""
    return _result(server, kind, send(server, Request("GET", path, params)))


def ask_all(server: Server, path: str, kind: type[T]) -> list[T]:
    """Returns all rows of a list, which comes in parts; raises as `ask`. kind: a row's type."""
    rows: list[T] = []
    following: str | None = f"{path}?limit={ROWS}"
    while following is not None:
        answer = send(server, Request("GET", following))
        rows += _result(server, list[kind], answer)  # type: ignore[valid-type]
        following = answer.links.get("next", {}).get("url")
    return rows


def tell(
    server: Server, path: str, kind: type[T], body: Any = None, *, is_repeatable: bool = True
) -> T:
    """Has the service do something, and returns what came of it; raises as `ask`. Where the
    connection breaks it is told again and yet does it once, by a key that is drawn here for it.
    is_repeatable: whether the route takes such a key."""
    request = Request("POST", path, body=body, headers={"Idempotency-Key": str(uuid4())})
    answer = send(server, request, waits=WAITS_S if is_repeatable else ())
    return _result(server, kind, answer)


def _result(server: Server, kind: type[T], answer: "Response") -> T:
    if answer.headers.get("Content-Type") != MEDIA_TYPE:
        raise no_service(server, answer)
    return unpack(kind, answer.content)
