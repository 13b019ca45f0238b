"""From a mapping of a sweep file to a domain, in the file's own words."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from search_spaces.domains import KINDS, Domain
from search_spaces.numbers import Scalar

_ADAPTER: TypeAdapter[Domain] = TypeAdapter(Domain)


def parse_domain(place: str, raw: object) -> Domain:
    """Returns the domain that a mapping of a sweep file describes, e.g. `{float: [0.5, 8]}`.

    Raises `ValueError` that begins with `place` (such as `search.tau`) with rule, value, remedy.
    """
    if not isinstance(raw, Mapping):
        short = f"{raw:.80}" if isinstance(raw, str) else f"{raw!r:.80}"
        is_list = isinstance(raw, list | tuple)
        remedy = f"{{choice: {short}}} to list them" if is_list else f"{{fixed: {short}}} to pin it"
        raise ValueError(
            f"{place}: a domain must be a mapping with one of {', '.join(KINDS)}, "
            f"but got {raw!r:.80}. Write {remedy}."
        )
    # Checked before pydantic sees it: of a union it would report one error for each member, with
    # the names of our classes in them.
    kinds = [kind for kind in KINDS if kind in raw]
    unknown = [name for name in raw if name not in _known_keys(kinds)]
    if unknown:
        known = _known_keys(kinds)
        raise ValueError(
            f"{place}: a domain knows {', '.join(known)}, but got '{unknown[0]!s:.80}'."
            f"{nearest(str(unknown[0]), known)}"
        )
    if len(kinds) != 1:
        raise ValueError(
            f"{place}: exactly one of {', '.join(KINDS)} must be given, "
            f"but got {' and '.join(kinds) or 'none'}. Keep one."
        )
    _check_shape(place, kinds[0], raw[kinds[0]])
    try:
        return _ADAPTER.validate_python(raw)
    except ValidationError as error:
        raise ValueError(f"{place}: {_first_problem(error)}") from None


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema of one domain as it is written in a sweep file."""
    return _ADAPTER.json_schema(by_alias=True)


def _check_shape(place: str, kind: str, value: object) -> None:
    """Says in the file's words what pydantic would say about tuples and unions."""
    if kind == "fixed":
        return
    if not isinstance(value, list | tuple) or (kind != "choice" and len(value) != 2):
        wanted = "a list of values" if kind == "choice" else "[low, high]"
        raise ValueError(f"{place}: {kind} must be {wanted}, but got {value!r:.80}.")
    allowed = "text, numbers, true or false" if kind == "choice" else "numbers"
    # A bool is an int to Python, and pydantic would take it for a bound.
    for item in value:
        if not isinstance(item, Scalar) or (kind != "choice" and isinstance(item, bool)):
            raise ValueError(f"{place}: {kind} must hold {allowed}, but got {item!r:.80}.")


def _known_keys(kinds: list[str]) -> list[str]:
    domains = [KINDS[kind] for kind in kinds] or list(KINDS.values())
    names = (
        field.alias or name for domain in domains for name, field in domain.model_fields.items()
    )
    return list(dict.fromkeys(names))


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    # The first step of the place is the tag of the union, which the user never wrote.
    inner = [str(step) for step in first["loc"][1:]]
    at = " ".join(["item " + step if step.isdigit() else step for step in inner])
    return f"{at}: {first['msg']}, but got {first['input']!r:.80}"


def nearest(name: str, known: Sequence[str]) -> str:
    """Returns ` Did you mean 'x'?`, or an empty string when nothing known is close to `name`."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean '{close[0]}'?" if close else ""
