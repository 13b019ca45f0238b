"""Turns pydantic's findings into one line each: place, rule, what came instead, remedy. Pure."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainers.nearest import nearest

_RULES: Mapping[str, str] = {
    "greater_than": "value > {gt} must hold",
    "greater_than_equal": "value >= {ge} must hold",
    "less_than": "value < {lt} must hold",
    "less_than_equal": "value <= {le} must hold",
    "string_pattern_mismatch": "must match {pattern}",
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


def explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Returns a line for each finding of `error`, raised by validating against `model`."""
    found = error.errors()
    return [_explain_at(item, model) for item in found if not _follows_from(item, found)]


def _follows_from(item: ErrorDetails, others: list[ErrorDetails]) -> bool:
    """Whether a finding is none of its own: a default that depends on a field with an error, or a
    list that is short by its wrong entries."""
    place = item["loc"]
    within = [other for other in others if other["loc"][: len(place)] == place != other["loc"]]
    return item["type"] == "default_factory_not_called" or (
        item["type"] == "too_short" and bool(within)
    )


def _explain_at(details: ErrorDetails, model: type[BaseModel]) -> str:
    place, known = _walk(model, details["loc"])
    return explain_one({**details, "loc": place}, known)


def _walk(
    model: type[BaseModel], loc: tuple[int | str, ...]
) -> tuple[tuple[int | str, ...], list[str]]:
    """Returns `loc` without the tags of unions, and the names known where it ends."""
    # Below a union pydantic puts the tag of the member that it tried into the place. Users never
    # wrote that tag, so it is left out, and only tells which class goes on from there.
    current: type[BaseModel] | None = model
    place: list[int | str] = []
    known: list[str] = []
    candidates: list[type[BaseModel]] = []
    for part in loc:
        tagged = [item for item in candidates if _kind(item) == part]
        if current is None and tagged:
            current = tagged[0]
            continue
        known = list(current.model_fields) if current is not None else []
        place.append(part)
        field = current.model_fields.get(str(part)) if current is not None else None
        candidates = _models_in(field.annotation) if field is not None else candidates
        current = candidates[0] if len(candidates) == 1 else None
    return tuple(place), known


def _kind(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("kind")
    return None if field is None else field.default


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Returns the pydantic classes in an annotation such as `FitConfig | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for item in get_args(annotation) for model in _models_in(item)]


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
        return f"{place}: must name its kind, but got {details['input']!r:.80}. Add kind: …"
    if kind == "value_error":
        message = details["msg"].removeprefix("Value error, ")
        # What is wrong inside the search says its own place, down to the searched name.
        return with_full_stop(
            message
            if message.startswith((f"{place}.", f"{place}:", f"{place}["))
            else f"{place}: {message}"
        )
    return f"{place}: {_rule(details)}, but got {_got(details)}.{_suggestion(details)}"


def with_full_stop(sentence: str) -> str:
    """Returns the sentence with its full stop, unless it has an end already."""
    return sentence if sentence.endswith((".", "?")) else sentence + "."


def place_of(loc: tuple[int | str, ...]) -> str:
    """Returns `a.b[2].c` for a pydantic location; an empty one is `the document`."""
    place = ""
    for part in loc:
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    return place.removeprefix(".") or "the document"


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


def _suggestion(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    expected = str(context.get("expected", context.get("expected_tags", "")))
    known = [name.strip().strip("'") for name in expected.replace(" or ", ",").split(",")]
    return nearest(_got(details).strip("'"), [name for name in known if name])
