import pytest

from service.events import (
    DriverEvent,
    Notice,
    Preparing,
    SlotsUp,
    SweepEnded,
    SweepGoesOn,
    SweepSummary,
    TrialAdvanced,
    TrialEnded,
    TrialEvaluated,
    TrialStarted,
    Waiting,
    from_line,
    is_for_logs,
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
    TrialAdvanced(3, 60, 600),
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


def test_a_log_has_about_ten_lines_of_a_trials_steps_and_all_other_events() -> None:
    steps = [TrialAdvanced(3, step, 1000) for step in range(10, 1001, 10)]
    kept = [event.step for event in steps if is_for_logs(event)]
    assert kept == list(range(100, 1001, 100))
    assert all(is_for_logs(event) for event in EVENTS)


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
