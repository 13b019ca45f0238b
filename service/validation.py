"""Turns pydantic's findings into one line each: place, rule, what came instead, remedy. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainers.config import nearest

_RULES: Mapping[str, str] = {
    "greater_than": "value > {gt} must hold",
    "greater_than_equal": "value >= {ge} must hold",
    "less_than": "value < {lt} must hold",
    "less_than_equal": "value <= {le} must hold",
    "finite_number": "must be a finite number",
    "too_short": "needs at least {min_length} entries",
    "literal_error": "must be one of {expected}",
    "enum": "must be one of {expected}",
    "union_tag_invalid": "kind must be one of {expected_tags}",
}
_EXPECTED: Mapping[str, str] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "dict": "a mapping of names to values",
    "mapping": "a mapping of names to values",
    "model": "a mapping of names to values",
    "tuple": "a list",
    "list": "a list",
}

KnownNames = Callable[[tuple[int | str, ...]], list[str]]


def explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Returns a line for each finding of `error`, raised by validating against `model`."""
    return [
        explain_one(details, names_at(model, details["loc"][:-1])) for details in error.errors()
    ]


def explain_one(details: ErrorDetails, known: list[str]) -> str:
    """Returns `place: rule, but got value. Remedy`; `known` names stand at its place."""
    place = place_of(details["loc"])
    kind = details["type"]
    if kind == "extra_forbidden":
        name = str(details["loc"][-1])
        return (
            f"{place}: only known fields are allowed, but got '{name}'."
            f"{nearest(name, known)} Known here: {', '.join(known)}."
        )
    if kind == "missing":
        return (
            f"{place}: must be given, but it is missing. Add it: kd-sweep init shows a whole spec."
        )
    if kind == "union_tag_not_found":
        return f"{place}: must name its kind, but got {details['input']!r}. Add kind: …"
    if kind == "value_error":
        return f"{place}: {details['msg'].removeprefix('Value error, ')}".rstrip(".") + "."
    return f"{place}: {_rule(details)}, but got {_got(details)}.{_close(details)}"


def place_of(loc: tuple[int | str, ...]) -> str:
    """Returns `a.b[2].c` for a pydantic location; an empty one is `the document`."""
    place = ""
    for part in loc:
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    return place.removeprefix(".") or "the document"


def names_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Returns the field names of the model at `loc` under `model`, or none where it is no model."""
    current: Any = model
    for part in loc:
        current = _model_in(current.model_fields[part].annotation) if _has(current, part) else None
    return list(current.model_fields) if current is not None else []


def _has(model: Any, part: int | str) -> bool:
    return model is not None and part in model.model_fields


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Returns the only pydantic class in an annotation such as `FitConfig | None`."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    models = [item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)]
    return models[0] if len(models) == 1 else None


def _rule(details: ErrorDetails) -> str:
    template = _RULES.get(details["type"])
    if template is not None:
        return template.format(**details.get("ctx", {}))
    wanted = _EXPECTED.get(details["type"].split("_")[0])
    return f"must be {wanted}" if wanted else details["msg"]


def _got(details: ErrorDetails) -> str:
    value = details["input"]
    if details["type"] == "union_tag_invalid":
        value = details["ctx"]["tag"]
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _close(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    expected = str(context.get("expected", context.get("expected_tags", "")))
    known = [name.strip().strip("'") for name in expected.replace(" or ", ",").split(",")]
    return nearest(_got(details).strip("'"), [name for name in known if name])
