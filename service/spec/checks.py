"""What a spec must hold beyond the shape of its parts: the search against `TrialConfig`. Pure.

Every branch of the space is tried at its ends before any compute, so that no sweep finds out after
hours that `tau` was drawn under `cist`.
"""

import random
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from search_spaces.domains import Condition, Float, Int
from search_spaces.space import SearchSpace
from service.spec.document import SweepSpec
from service.spec.messages import explain_one
from trainers.trial.catalogue import DIVERGENCES, POLICIES
from trainers.trial.config import GROUPS, TrialConfig

MOST_CORNERS = 3000
RANDOM_POINTS = 300


def check_search(spec: SweepSpec) -> None:
    """Raises `ValueError` that names place, rule and remedy when the search cannot work."""
    for name in spec.search.written:
        _check_is_not_given(name, spec.given())
    spec.sampler.check(spec.search, len(spec.objective))
    _check_objective(spec)
    for values in samples(spec.search):
        _check_search_limits(_trial_of(spec, values), values)


def _trial_of(spec: SweepSpec, values: Mapping[str, Any]) -> TrialConfig:
    """Returns the trial of this spec with the hyperparameters `values`. Raises `ValueError` when
    they give no valid one."""
    try:
        return spec.trial_config(values)
    except ValidationError as error:
        details = error.errors()[0]
        if details["loc"]:
            line = explain_one(details, [])
            raise ValueError(f"{_section_of(str(details['loc'][0]), spec)}{line}") from None
        message = details["msg"].removeprefix("Value error, ")
        raise ValueError(_placed(message, spec, values)) from None


def _check_is_not_given(name: str, given: Mapping[str, Any]) -> None:
    if name in given:
        raise ValueError(
            f"search.{name}: a field is either searched or given, but got it in both places "
            f"(given: {given[name]}). Remove one."
        )


def _check_objective(spec: SweepSpec) -> None:
    if len(spec.objective) > 1 and spec.early_stopping.kind != "none":
        raise ValueError(
            "early_stopping: kind none must hold with two objectives, where no trial is weak as "
            f"such, but got {spec.early_stopping.kind}. Use early_stopping: {{kind: none}}."
        )
    generated = spec.evaluation.generation_prompts
    if generated == 0 and any(one.metric == "rouge_l" for one in spec.objective):
        raise ValueError(
            "objective: rouge_l needs generated responses, but got "
            "evaluation.generation_prompts=0. Use a positive number, or another metric such as "
            "cross_entropy."
        )


def samples(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Yields the corners of every branch unless they are too many, and seeded draws, each also with
    all ranges at their lower and at their upper ends."""
    corners = space.size(2)
    if corners is not None and corners <= MOST_CORNERS:
        yield from space.enumerate(2)
    rng = random.Random(0)
    for _ in range(RANDOM_POINTS):
        drawn = space.draw(rng)
        yield drawn
        for end in (0, -1):
            moved = drawn | {
                name: domain.points(2)[end]
                for name, domain in space.domains.items()
                if name in drawn and isinstance(domain, Float | Int)
            }
            if space.contains(moved):  # not where a condition hangs on a range
                yield moved


def _check_search_limits(config: TrialConfig, values: Mapping[str, Any]) -> None:
    row = DIVERGENCES.get(config.divergence)
    for name, parameter in row.parameters.items() if row else ():
        low, high, value = parameter.search_low, parameter.search_high, getattr(config, name)
        if name not in values or low is None or high is None or low <= value <= high:
            continue
        raise ValueError(
            f"search.{name}: a searched {name} must lie inside [{low}, {high}], "
            f"{parameter.search_because}, but got {value}. Narrow the range, or give one value "
            "under loss."
        )


def _placed(message: str, spec: SweepSpec, values: Mapping[str, Any]) -> str:
    """Returns the message of a broken rule with its place, and the condition to write."""
    words = message.replace(":", " ").split()
    field = next((word for word in words if word in TrialConfig.model_fields), "")
    section = _section_of(field, spec)
    text = f"{section}{field}: {message}" if section else message
    branch = ", ".join(f"{name}: {value}" for name, value in sorted(values.items()))
    text = f"{text.rstrip('.')} (at {branch})."
    return text + (_condition_hint(field, spec, values) if "belongs to" in message else "")


def _section_of(field: str, spec: SweepSpec) -> str:
    if field in spec.search.domains:
        return "search."
    section = GROUPS[field].section if field in GROUPS else ""
    return f"{section}." if section else ""


def _condition_hint(field: str, spec: SweepSpec, values: Mapping[str, Any]) -> str:
    """Returns the condition that keeps a parameter to those that have it, as it is to be written;
    empty where neither a searched divergence nor a searched policy decides on that."""
    space, given = spec.search, spec.given()
    point = {**given, **values}
    is_of_policy = any(field in traits.parameters for traits in POLICIES.values())
    for parent in ("policy", "divergence") if is_of_policy else ("divergence", "policy"):
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
