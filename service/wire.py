"""What a service and its client both write: words of the protocol, and a result as it is sent to
another kd-sweep: all of it, to be the same value again there. What a command prints with `--json`
has less, such as a trial's config or a NaN."""

from importlib.metadata import version
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_json

T = TypeVar("T")
API = "/api/v1"  # in front of each route
MEDIA_TYPE = "application/vnd.kd-sweep+json"
PROBLEM_TYPE = "application/problem+json"
EVENTS_TYPE = "text/event-stream"
PROBLEM = "problem"  # the name of the event that says why no more come
VERSION = "; version="


def accepted() -> str:
    """Returns what a client that wants results writes into the header `Accept`: results go between
    equal versions alone."""
    return f"{MEDIA_TYPE}{VERSION}{version('kd-sweep')}"


def pack(result: Any) -> bytes:
    """Returns a dataclass, a pydantic model, or a list of them, as JSON, in which numbers may be
    NaN. Of a model the fields that were given: the others have the defaults of this version."""
    if isinstance(result, BaseModel):
        return result.model_dump_json(exclude_unset=True).encode()
    return to_json(result, inf_nan_mode="constants")


def unpack(kind: type[T], body: bytes) -> T:
    """Returns the result of type `kind` that `pack` was given. Raises `ValueError` for a body that
    holds none."""
    return TypeAdapter(kind).validate_json(body)
