"""Errors as problem+json (RFC 9457): what the command line says of one, in its parts."""

import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from service.actions.hosted import NotAllowed
from service.errors import (
    JobError,
    NotRecorded,
    PlanError,
    SpecError,
    SweepError,
    TrackingError,
)
from service.wire import API, PROBLEM_TYPE

logger = logging.getLogger(__name__)
# The first that fits counts.
STATUS_OF: Mapping[type[SweepError], int] = {
    NotRecorded: HTTPStatus.NOT_FOUND,
    NotAllowed: HTTPStatus.FORBIDDEN,
    SpecError: HTTPStatus.UNPROCESSABLE_ENTITY,
    PlanError: HTTPStatus.CONFLICT,
    JobError: HTTPStatus.CONFLICT,
    TrackingError: HTTPStatus.SERVICE_UNAVAILABLE,
    SweepError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
# Of requests that no action sees: what the command line exits with.
EXIT_CODE_OF: Mapping[int, int] = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: SpecError.exit_code,
    HTTPStatus.UNPROCESSABLE_ENTITY: SpecError.exit_code,
    HTTPStatus.INTERNAL_SERVER_ERROR: SweepError.exit_code,
}
_PARTS = re.compile(
    r"(?P<place>[^:]{1,120}): (?P<rule>.+?)(?:,? but (?:got:? )?(?P<got>.+?))?"
    r"(?:[.?](?: (?P<remedy>.+))?)?",
    re.DOTALL,
)


class Wrong(BaseModel):
    """One thing that is wrong. place: where; rule: what must hold there; got: what came instead;
    remedy: what to do. Null where the message does not say."""

    place: str | None = None
    rule: str
    got: str | None = None
    remedy: str | None = None


class Problem(BaseModel):
    """Why there is no answer. exit_code: of the command line, asked the same."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    exit_code: int
    errors: list[Wrong] = Field(default_factory=list)


class Refused(HTTPException):
    """A request that is refused before any action: `message` as the command line would say it."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, dict(headers or {}))


def parts_of(message: str) -> list[Wrong]:
    """Returns the parts of an error's message, one for each of its lines."""
    return [_parts_of_line(line) for line in message.splitlines() if line.strip()]


def _parts_of_line(line: str) -> Wrong:
    found = _PARTS.fullmatch(line.strip())
    return Wrong(rule=line.strip()) if found is None else Wrong(**found.groupdict())


def told(
    status: int,
    message: str,
    *,
    error: SweepError | None = None,
    errors: Sequence[Wrong] | None = None,
) -> Problem:
    """Returns what an answer with this status says. error: what an action raised."""
    return Problem(
        type=f"urn:kd-sweep:{type(error).__name__}" if error else "about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=message,
        exit_code=error.exit_code if error else EXIT_CODE_OF.get(status, JobError.exit_code),
        errors=parts_of(message) if errors is None else list(errors),
    )


def problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Returns the answer that says why there is no other one."""
    return _answer(told(status, message), headers)


def of_sweep_error(error: SweepError) -> Problem:
    """Returns the problem of an error that an action raised."""
    status = next(code for kind, code in STATUS_OF.items() if isinstance(error, kind))
    return told(status, str(error), error=error)


def _answer(said: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(said.model_dump(), said.status, headers, media_type=PROBLEM_TYPE)


def _of_validation(error: RequestValidationError) -> Problem:
    found = [
        Wrong(place=".".join(map(str, one["loc"])), rule=str(one["msg"])) for one in error.errors()
    ]
    said = "; ".join(f"{one.place}: {one.rule}" for one in found)
    return told(HTTPStatus.UNPROCESSABLE_ENTITY, said, errors=found)


def _of_http(request: Request, error: HTTPException) -> Problem:
    """Returns the problem of a request that no route takes, or that is `Refused`."""
    status, said = error.status_code, str(error.detail)
    if status == HTTPStatus.BAD_REQUEST:  # FastAPI's, for a body that no JSON parser reads
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        said = "body: must be JSON in UTF-8, but got something else. Send what OpenAPI shows."
    elif said == HTTPStatus.NOT_FOUND.phrase:
        said = (
            f"{request.url.path:.80}: must be a path of the service, but there is no such one. "
            f"{API}/openapi.json has those of the API."
        )
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another one")
        said = (
            f"{request.url.path:.80}: the method must be {allowed}, but got {request.method:.20}. "
            f"{API}/openapi.json has what the API takes."
        )
    return told(status, said)


def install(app: FastAPI) -> None:
    """Has the app answer every error with a problem."""

    def on_sweep_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, SweepError)
        return _answer(of_sweep_error(error))

    def on_validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _answer(_of_validation(error))

    def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return _answer(_of_http(request, error), error.headers)

    def on_other(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s", request.method, request.url.path, exc_info=error)
        said = "service: must answer, but got an error of its own. Its log has more."
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, said)

    app.add_exception_handler(SweepError, on_sweep_error)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_other)
