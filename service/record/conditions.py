"""The conditions and groups of a question to the record, in the words of a command line. Pure."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from service.errors import SpecError
from service.record.records import RunRecord, as_text
from service.states import TrialState
from trainers.nearest import nearest
from trainers.trial.config import TrialConfig
from trainers.trial.rules import parameter_owners

# Fields of a run beside those of its config.
OF_RUNS: Mapping[str, Callable[[RunRecord], Any]] = {
    "state": lambda record: str(record.state),
    "label": lambda record: record.label,
    "cell": lambda record: record.cell,
    "role": lambda record: record.tags.get("role"),
    "device": lambda record: record.tags.get("device"),
}
# 0.1 + 0.2 is not 0.3 in binary, and both may be recorded for one point of a search.
DIGITS = 12
FORM = re.compile(r"\s*(?P<field>\w*)\s*(?P<sign><=|>=|!=|==?|<|>)\s*(?P<value>.*?)\s*")
ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
NOT_USED = "–"
# In the config of every trial, and used by those that ask the teacher alone.
OF_SOFT_LOSS = frozenset({"divergence", "policy", "scaling", *parameter_owners()})


@dataclass(frozen=True)
class Condition:
    """A field, how it is compared (=, !=, <, <=, >, >=) and the value it is compared with."""

    field: str
    sign: str
    value: Any

    def holds(self, record: RunRecord) -> bool:
        """Returns whether it holds for a trial; never for one that does not use the field."""
        recorded = value_of(record, self.field)
        if recorded is None:
            return False
        is_equal = _is_equal(recorded, self.value)
        if self.sign in ("=", "!="):
            return is_equal is (self.sign == "=")
        if is_equal or not _is_number(recorded):
            return is_equal and self.sign in ("<=", ">=")
        return ORDERS[self.sign](recorded, self.value)


def conditions(texts: Sequence[str]) -> list[Condition]:
    """Returns the conditions in `texts`, `field=value` each, or another sign than =. Raises
    `SpecError` naming what is wrong."""
    return [_condition(text) for text in texts]


def check_group(per: str | None) -> None:
    """Raises `SpecError` unless `per` is a field that trials can be grouped by, or None."""
    if per is not None and per not in TrialConfig.model_fields:
        raise SpecError(_unknown("--per", "must be", per, list(TrialConfig.model_fields)))


def group_of(record: RunRecord, per: str) -> str:
    """Returns what the values of the field `per` that make one group have in common; a dash for
    trials that do not use it."""
    value = value_of(record, per)
    if value is None:
        return NOT_USED
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else as_text(value)


def value_of(record: RunRecord, field: str) -> Any:
    """Returns a field of a trial; None where the trial does not use it: what belongs to the soft
    loss is in the config of a trial without one too."""
    if field in OF_RUNS:
        return OF_RUNS[field](record)
    if field in OF_SOFT_LOSS and record.config.get("soft_weight") == 0:
        return None
    return record.config.get(field)


def _condition(text: str) -> Condition:
    parts = FORM.fullmatch(text)
    if parts is None or not parts["value"]:
        raise SpecError(
            f"--where: must be a field, one of = != < <= > >=, and a value, but got '{text}'. "
            "Write e.g. 'tau<2', in quotes: a shell takes < and > for files."
        )
    name, sign = parts["field"], parts["sign"].replace("==", "=")
    if name not in OF_RUNS and name not in TrialConfig.model_fields:
        raise SpecError(
            _unknown("--where", "field must be", name, [*OF_RUNS, *TrialConfig.model_fields])
        )
    value = _value(name, parts["value"])
    if sign in ORDERS and not _is_number(value):
        raise SpecError(
            f"--where: {sign} compares numbers, but got '{text}'. Use = or != with {name}."
        )
    return Condition(name, sign, value)


def _value(name: str, text: str) -> Any:
    """Returns the value as the field has it. Raises `SpecError` for one that it cannot have."""
    annotation: Any = TrialState if name == "state" else str
    if name in TrialConfig.model_fields:
        annotation = TrialConfig.model_fields[name].annotation
    try:
        found = TypeAdapter(annotation).validate_python(text)
    except ValidationError as error:
        rule = error.errors()[0]["msg"]
        raise SpecError(
            f"--where: {name}: {rule}, but got '{text}'. Write a value as trials show it."
        ) from error
    return str(found) if isinstance(found, str) else found


def _is_equal(recorded: Any, value: Any) -> bool:
    if _is_number(recorded) and _is_number(value):
        return math.isclose(recorded, value, rel_tol=10.0**-DIGITS)
    return bool(as_text(recorded) == as_text(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unknown(option: str, rule: str, name: str, known: Sequence[str]) -> str:
    return f"{option}: {rule} one of {', '.join(known)}, but got '{name}'.{nearest(name, known)}"
