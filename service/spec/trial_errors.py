"""Says what is wrong with a trial that a sweep could draw: the place in the document, the rule, the
trial, and the condition that would keep the search away from it. Pure."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from search_spaces.domains import Condition
from service.spec.document import SweepSpec
from service.spec.messages import explain_one
from trainers.trial.adapters import AllAdapterFields
from trainers.trial.catalogue import POLICIES
from trainers.trial.config import GROUPS, TrialConfig


def explain_trial(error: ValidationError, spec: SweepSpec, values: Mapping[str, Any]) -> str:
    """Returns one line about `error`, which the trial of `spec` with the hyperparameters `values`
    raised."""
    details = error.errors()[0]
    if details["loc"]:
        return f"{_section(str(details['loc'][0]), spec)}{explain_one(details, [])}"
    message = details["msg"].removeprefix("Value error, ")
    field = _first_field(message)
    section = _section(field, spec)
    text = f"{section}{field}: {message}" if section else message
    branch = ", ".join(f"{name}: {value}" for name, value in sorted(values.items()))
    text = f"{text.rstrip('.')} (at {branch})."
    return text + (_condition_hint(field, spec, values) if "belongs to" in message else "")


def _first_field(message: str) -> str:
    """Returns the field that a rule is about: the first one that its message names."""
    words = message.replace(":", " ").split()
    return next((word for word in words if word in GROUPS), "")


def _section(field: str, spec: SweepSpec) -> str:
    """Returns `loss.` for a field that the document has under loss, and so on; empty where it
    stands at the top level."""
    section = spec.section_of(field) or (GROUPS[field].section if field in GROUPS else "")
    return f"{section}." if section else ""


def _condition_hint(field: str, spec: SweepSpec, values: Mapping[str, Any]) -> str:
    """Returns the condition that keeps a parameter to those that have it, in the words of a sweep;
    empty where nothing that is searched decides on that."""
    if spec.section_of(field) == "cells":
        return " Or write an entry of cells for those that have it."
    # Tries each value of a searched policy, divergence or kind of adapter with the parameter: those
    # with which it is valid make the condition, unless they are all of them, or none.
    space, given = spec.search, spec.given()
    point = {**given, **values}
    for parent in _parents(field):
        chosen = {name: point[name] for name in ("divergence", "policy", field) if name in point}
        points = space.domains[parent].points(2) if parent in space.domains else []
        fitting = tuple(value for value in points if _is_valid(chosen | {parent: value}))
        if not 0 < len(fitting) < len(points):
            continue
        if field in values:
            when = _in_words(space.domains[field].when | {parent: fitting})
            return f" Or write {field}: {{…, when: {when}}}."
        moved = f"{{fixed: {given[field]}, when: {_in_words({parent: fitting})}}}"
        return f" Or move it to search: {field}: {moved}."
    return ""


def _parents(field: str) -> tuple[str, ...]:
    """Returns the fields that may decide on whether trials have `field`, the likeliest first."""
    if field in AllAdapterFields.model_fields:
        return ("adapter_kind",)
    is_of_policy = any(field in traits.parameters for traits in POLICIES.values())
    return ("policy", "divergence") if is_of_policy else ("divergence", "policy")


def _in_words(when: Condition) -> str:
    """Returns conditions as they are written in a sweep."""
    texts = []
    for parent, wanted in when.items():
        values = ", ".join(map(str, wanted)) if isinstance(wanted, tuple) else str(wanted)
        is_list = isinstance(wanted, tuple) and len(wanted) > 1
        texts.append(f"{parent}: [{values}]" if is_list else f"{parent}: {values}")
    return f"{{{', '.join(texts)}}}"


def _is_valid(fields: Mapping[str, Any]) -> bool:
    try:
        TrialConfig.model_validate(fields)
    except ValidationError:
        return False
    return True
