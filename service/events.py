"""What a sweep's driver reports while it runs, for displays and logs: one small frozen class for
each event."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from service.states import TrialState


@dataclass(frozen=True)
class Preparing:
    """What all trials share is being made: `stage` in words, `share` of it done, 0 to 1."""

    stage: str
    share: float


@dataclass(frozen=True)
class Waiting:
    """Something is waited for that tells nothing of itself: `what` in words."""

    what: str


@dataclass(frozen=True)
class SweepGoesOn:
    """A sweep goes on that an earlier driver began. `counts`: its trials that have ended, by state;
    of the best of these: its number `best`, None when there is none, `objective`, and what
    `TrialStarted` says of one."""

    counts: Mapping[str, int]
    best: int | None = None
    objective: float | None = None
    label: str | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SlotsUp:
    """`num_slots` slots are ready to train, of `num_planned`."""

    num_slots: int
    num_planned: int


@dataclass(frozen=True)
class TrialStarted:
    """An attempt (0 = the first) at a trial goes to a slot that is free; `label` names a control
    trial."""

    trial: int
    attempt: int
    label: str | None
    hyperparameters: Mapping[str, Any]


@dataclass(frozen=True)
class TrialAdvanced:
    """A running trial has done `step` optimiser steps of `num_steps`; said at each percent, once a
    second at most."""

    trial: int
    step: int
    num_steps: int

    @property
    def percent(self) -> int:
        """How much of the trial is done, 0 to 100."""
        return 100 * self.step // self.num_steps


@dataclass(frozen=True)
class TrialEvaluated:
    """A running trial's validation metrics at evaluation number `evaluation` (1-based)."""

    trial: int
    evaluation: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class TrialEnded:
    """A trial's end; `objective` is None unless it completed or was stopped early with a value."""

    trial: int
    state: TrialState
    objective: float | None
    error: str | None = None


@dataclass(frozen=True)
class SweepSummary:
    """A sweep's end. `state`: completed | cancelled; `counts`: trials by state, all attempts of the
    driver together; `best` is the number of the trial with the best objective, None when there is
    none."""

    sweep_id: str
    run_id: str
    state: str
    counts: Mapping[str, int]
    best: int | None
    objective: float | None
    duration_s: float


@dataclass(frozen=True)
class SweepEnded:
    """The sweep is over."""

    summary: SweepSummary


@dataclass(frozen=True)
class Notice:
    """Something the user should know that ends nothing, such as a slot that was replaced."""

    text: str


DriverEvent = (
    Preparing
    | Waiting
    | SweepGoesOn
    | SlotsUp
    | TrialStarted
    | TrialAdvanced
    | TrialEvaluated
    | TrialEnded
    | SweepEnded
    | Notice
)

KINDS = {
    kind.__name__: kind
    for kind in (
        Preparing,
        Waiting,
        SweepGoesOn,
        SlotsUp,
        TrialStarted,
        TrialAdvanced,
        TrialEvaluated,
        TrialEnded,
        SweepEnded,
        Notice,
    )
}


def is_for_logs(event: DriverEvent) -> bool:
    """Returns whether an event is worth a line that is kept: of a trial's steps every tenth percent
    is, where a display shows each."""
    return not isinstance(event, TrialAdvanced) or event.percent % 10 == 0


def to_line(event: DriverEvent) -> str:
    """Returns the event as one line of JSON, for the log of a job."""
    return json.dumps({"event": type(event).__name__} | asdict(event), default=str)


def from_line(line: str) -> DriverEvent | None:
    """Returns the event that `to_line` wrote; None for any other line, also one that was cut off or
    is another version's."""
    if not line.startswith('{"event": '):
        return None
    try:
        return _event_of(json.loads(line))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def _event_of(values: dict[str, Any]) -> DriverEvent:
    kind = KINDS[values.pop("event")]
    if kind is TrialEnded:
        values["state"] = TrialState(values["state"])
    if kind is SweepEnded:
        values["summary"] = SweepSummary(**values["summary"])
    # A driver of an older version wrote fields that there are no more.
    known = {one.name for one in fields(kind)}
    event: DriverEvent = kind(**{name: value for name, value in values.items() if name in known})
    return event
