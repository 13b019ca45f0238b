"""The conditions and groups of a question to the record, in the words of a command line. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from service.errors import SpecError
from service.record import tags
from service.record.reading import Equal
from service.record.records import RunRecord
from service.record.run_entries import as_text
from trainers.nearest import nearest
from trainers.trial.config import TrialConfig

OF_RUNS = ("state", "label", "device")
# 0.1 + 0.2 is not 0.3 in binary, and both may be recorded for one point of a search.
DIGITS = 12


@dataclass(frozen=True)
class Condition:
    """A field and the value that it must have; of_run: the field is a tag of the run, not one of
    the trial's config."""

    field: str
    value: Any
    of_run: bool = False

    @property
    def equal(self) -> Equal | None:
        """What the store can search for; None for a real number, which `holds` has to find."""
        if self.of_run:
            return Equal("tags", tags.PREFIX + self.field, self.value)
        if isinstance(self.value, float):
            return None
        return Equal("params", self.field, as_text(self.value))

    def holds(self, record: RunRecord) -> bool:
        """Returns whether it holds, for a trial that the store found by `equal`."""
        if self.equal is not None:
            return True
        recorded = record.config.get(self.field)
        if isinstance(recorded, bool) or not isinstance(recorded, int | float):
            return False
        return math.isclose(recorded, self.value, rel_tol=10.0**-DIGITS)


def conditions(texts: Sequence[str]) -> list[Condition]:
    """Returns the conditions in `texts`, `field=value` each. Raises `SpecError` naming the known
    fields."""
    return [_condition(text) for text in texts]


def check_group(per: str | None) -> None:
    """Raises `SpecError` unless `per` is a field that trials can be grouped by, or None."""
    if per is not None and per not in TrialConfig.model_fields:
        raise SpecError(_unknown("--per", "must be", per, list(TrialConfig.model_fields)))


def group_of(record: RunRecord, per: str) -> str:
    """Returns what the values of the field `per` that make one group have in common."""
    value = record.config.get(per)
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else as_text(value)


def _condition(text: str) -> Condition:
    name, sign, value = (part.strip() for part in text.partition("="))
    if not sign or not value:
        raise SpecError(f"--where: must be field=value, but got '{text}'. Write e.g. tau=2.")
    if name in OF_RUNS:
        return Condition(name, value, of_run=True)
    fields = TrialConfig.model_fields
    if name not in fields:
        raise SpecError(_unknown("--where", "field must be", name, [*OF_RUNS, *fields]))
    annotation: Any = fields[name].annotation
    try:
        return Condition(name, TypeAdapter(annotation).validate_python(value))
    except ValidationError as error:
        rule = error.errors()[0]["msg"]
        raise SpecError(
            f"--where: {name}: {rule}, but got '{value}'. Write a value as trials show it."
        ) from error


def _unknown(option: str, rule: str, name: str, known: Sequence[str]) -> str:
    return f"{option}: {rule} one of {', '.join(known)}, but got '{name}'.{nearest(name, known)}"
