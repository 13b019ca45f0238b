"""One request to a service: sent as its user, and answered, refused or lost."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.errors import JobError, PlanError, SpecError, SweepError, TrackingError
from service.wire import PROBLEM_TYPE, accepted
from service.workspace import Server

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

Params = Mapping[str, str | int | bool | Sequence[str] | None]
CONNECT_S, SILENT_S = 10.0, 300.0
WAITS_S = (0.3, 1.0, 3.0)
PASSING = (502, 503, 504)  # what a proxy says while the service starts again
ERROR_OF = {one.exit_code: one for one in (SpecError, PlanError, JobError, TrackingError)}


class Away(JobError):
    """The service does not answer; it may a moment later."""


@dataclass(frozen=True)
class Request:
    """What a service is asked. `silent_s`: how long it may say nothing; `is_stream`: the answer is
    read as it comes."""

    method: str
    path: str
    params: Params | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    silent_s: float = SILENT_S
    is_stream: bool = False


def send(server: Server, request: Request, *, waits: Sequence[float] = WAITS_S) -> "Response":
    """Returns the service's answer, and raises the error that it answers with instead. waits:
    seconds before each further try where none came. Raises `Away` when none came at last, and
    `JobError` for what is no service."""
    for wait in waits:
        with suppress(Away):
            return _send(server, request)
        time.sleep(wait)
    return _send(server, request)


def _send(server: Server, request: Request) -> "Response":
    import requests

    def as_user(prepared: "PreparedRequest") -> "PreparedRequest":
        # As `auth`, not as a header: that one would give way to what ~/.netrc has for the host.
        prepared.headers["Authorization"] = f"Bearer {server.token}"
        return prepared

    with answering(server):
        answer = requests.request(
            request.method,
            server.address + request.path,
            params=request.params,
            json=request.body,
            headers={"Accept": accepted()} | dict(request.headers),
            auth=as_user,
            timeout=(CONNECT_S, request.silent_s),
            allow_redirects=False,  # which would send the token elsewhere
            stream=request.is_stream,
        )
    if answer.status_code in PASSING and not _is_problem(answer):
        raise Away(_lost(server, f"{answer.status_code} {answer.reason}"))
    if answer.status_code >= 300:
        raise _error_of(server, answer)
    return answer


@contextmanager
def answering(server: Server) -> Iterator[None]:
    """Raises `Away` where the connection breaks, and `JobError` where there can be none."""
    import requests

    try:
        yield
    except (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
    ) as error:
        raise Away(_lost(server, _reason(error))) from error
    except requests.RequestException as error:
        raise JobError(_lost(server, str(error))) from error


def no_service(server: Server, answer: "Response") -> JobError:
    """Returns what to say of an answer that no service of kd-sweep gives."""
    kind = answer.headers.get("Content-Type", "nothing that says its type")
    return JobError(
        f"server {server.address}: must be a service of kd-sweep, but it answered "
        f"{answer.status_code} with {kind:.80}. Correct the address."
    )


def _is_problem(answer: "Response") -> bool:
    return answer.headers.get("Content-Type", "").startswith(PROBLEM_TYPE)


def _error_of(server: Server, answer: "Response") -> SweepError:
    if answer.is_redirect:
        return JobError(
            f"server {server.address}: must be the address of the service itself, but got one that "
            f"leads to {answer.headers['Location']:.200}. Use that one."
        )
    if not _is_problem(answer):
        return no_service(server, answer)
    problem = answer.json()
    return ERROR_OF.get(problem["exit_code"], SweepError)(problem["detail"])


def _lost(server: Server, reason: str) -> str:
    return (
        f"server {server.address}: must answer, but got: {reason.rstrip('.')}. Is the address "
        "right, and does kd-sweep serve run there?"
    )


def _reason(error: BaseException) -> str:
    """Returns why a connection broke: what the operating system said, below what libraries made of
    it."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, TimeoutError):
            return "nothing in time"
        if isinstance(below, OSError) and below.strerror:
            return below.strerror
        below = below.__cause__ or below.__context__
    return str(error) or type(error).__name__
