"""What OpenAPI says of the API beside what its routes say themselves: how callers are known, and an
example of each answer and each problem."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from service.api.examples import ANSWERS, PROBLEMS
from service.api.problems import Problem, of_sweep_error, told
from service.errors import SweepError
from service.wire import API, EVENTS_TYPE, PROBLEM_TYPE

# Of every route that asks who calls.
EVERYWHERE = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
)
ETAG = {"description": "changes with the answer", "schema": {"type": "string"}}
LINK = {"description": "where the next part is, if there is one", "schema": {"type": "string"}}
NOT_MODIFIED = {"description": "Nothing changed since the ETag that came as If-None-Match."}
Operation = dict[str, Any]


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns what OpenAPI says of the problems of a route that asks who calls: those of the
    statuses, and those of every such route."""
    return problems_of(*EVERYWHERE, *statuses)


def problems_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns what OpenAPI says of problems with these statuses."""
    return {int(one): _problem(one) for one in sorted({*statuses})}


def _problem(status: int) -> dict[str, Any]:
    known = PROBLEMS[status]
    said = of_sweep_error(known) if isinstance(known, SweepError) else told(status, known)
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {PROBLEM_TYPE: {"schema": schema, "example": said.model_dump()}}
    return {"description": HTTPStatus(status).phrase, "content": content}


def describe(app: FastAPI) -> None:
    """Has the app say so where OpenAPI is asked for."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = make()
            _add_problem(made.setdefault("components", {}))
            for path, method, operation in _operations(made):
                _add_examples(operation)
                if "401" in operation["responses"]:
                    operation["security"] = [{"token": []}]
                if path.startswith(API):
                    _add_headers(operation, is_get=method == "get")
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, Operation]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def _add_problem(components: dict[str, Any]) -> None:
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = components.setdefault("schemas", {})
    schemas.update(schema.pop("$defs", {}))
    schemas["Problem"] = schema
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}


def _add_examples(operation: Operation) -> None:
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            for content in answer.get("content", {}).values():
                content["example"] = ANSWERS[operation["operationId"]]


def _add_headers(operation: Operation, *, is_get: bool) -> None:
    """Says which headers come with an answer that is no stream."""
    responses = operation["responses"]
    if EVENTS_TYPE in responses["200"]["content"]:
        return
    headers = {"ETag": ETAG}
    if "cursor" in [one["name"] for one in operation.get("parameters", [])]:
        headers["Link"] = LINK
    responses["200"]["headers"] = headers
    if is_get:
        responses["304"] = NOT_MODIFIED
