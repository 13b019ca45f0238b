import pytest

from service.events import (
    DriverEvent,
    Notice,
    Preparing,
    SlotsUp,
    SweepEnded,
    SweepGoesOn,
    SweepSummary,
    TrialEnded,
    TrialEvaluated,
    TrialStarted,
    Waiting,
    from_line,
    to_line,
)
from service.states import TrialState

EVENTS: list[DriverEvent] = [
    Preparing("data", 0.5),
    Waiting("starting Ray"),
    SweepGoesOn({"completed": 3}, 1, 9.5, None, {"tau": 2.0}),
    SweepGoesOn({"failed": 3}),
    SlotsUp(1, 2),
    TrialStarted(3, 1, "hard loss only", {"tau": 2.0}),
    TrialEvaluated(3, 2, {"rouge_l": 30.0}),
    TrialEnded(3, TrialState.COMPLETED, 30.0),
    TrialEnded(4, TrialState.FAILED, None, "line one\nline two"),
    Notice("trial 4 starts again"),
    SweepEnded(SweepSummary("tiny-1", "run", "completed", {"completed": 2}, 3, 30.0, 9.5)),
]


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_survives_a_log(event: DriverEvent) -> None:
    line = to_line(event)
    assert "\n" not in line
    assert from_line(line) == event


def test_a_line_of_an_older_version_is_read() -> None:
    line = '{"event": "Notice", "text": "trial 4 starts again", "facts": {}}'
    assert from_line(line) == Notice("trial 4 starts again")


def test_other_lines_are_no_events() -> None:
    assert from_line("(raylet) something") is None


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "TrialStarted", "tri',
        '{"event": "Nothing"}',
        '{"event": "TrialStarted"}',
        '{"event": []}',
        '{"event": "TrialEnded", "state": "great"}',
        '{"event": "SweepEnded", "summary": 3}',
        '{"event": ' + "[" * 100_000,
    ],
)
def test_a_line_that_was_cut_off_or_changed_is_no_event(line: str) -> None:
    assert from_line(line) is None
