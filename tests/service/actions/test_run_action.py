"""A run on this machine with the driver replaced: what is asked, told, kept and returned."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from records_support import make_store, make_tracker, plan_of, record_sweep, trial_of

from service import actions
from service.actions.run import StartTime, fresh_id, run_sweep
from service.actions.run_result import RunEvent, RunResult, SweepBegins
from service.driver.driver import Place
from service.events import Preparing, SlotsUp, SweepSummary, TrialEnded, TrialStarted, Waiting
from service.home import home_folder
from service.plan.measured import known_times
from service.plan.plan import SweepPlan
from service.states import TrialState
from service.workspace import Workspace

ROWS = [
    ({"divergence": "forward_kl", "tau": 1.0}, {"rouge_l": 10.0, "cross_entropy": 2.0}),
    ({"divergence": "reverse_kl", "tau": 2.0}, {"rouge_l": 30.0, "cross_entropy": 4.0}),
]


class Driver:
    """Records a sweep instead of training one; `state` is how it says it ended."""

    def __init__(self, state: TrialState = TrialState.COMPLETED, *, fails: bool = False) -> None:
        self.plans: list[SweepPlan] = []
        self._state, self._fails = state, fails

    def __call__(
        self,
        place: Place,
        plan: SweepPlan,
        *,
        on_event: Callable[[Any], None],
        stop: threading.Event,
    ) -> SweepSummary:
        self.plans.append(plan)
        on_event(SlotsUp(1, 1))
        for number, (values, metrics) in enumerate(ROWS):
            on_event(TrialStarted(number, 0, None, values))
            on_event(TrialEnded(number, TrialState.COMPLETED, metrics["rouge_l"]))
        record = self._record_failures if self._fails else record_sweep
        run = record(place.tracking_uri, place.home, plan, ROWS)
        return SweepSummary(plan.sweep_id, run, self._state, {}, 1, 30.0, 1.0)

    def _record_failures(self, uri: str, home: Path, plan: SweepPlan, rows: list[Any]) -> str:
        tracker = make_tracker(uri, home)
        sweep = tracker.start_sweep(plan)
        for number, (values, _) in enumerate(rows):
            trial = trial_of(plan, number, values)
            run = tracker.start_trial(sweep, trial, hyperparameters=values, label=None)
            tracker.finish_trial(run, TrialState.FAILED, error='File "a.py", line 1\nKeyError: x')
        tracker.finish_sweep(sweep, TrialState.COMPLETED)
        assert tracker.close()
        return sweep


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace(home_folder())
    make_store(made.home)
    return made


def run(
    fake: Driver, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, *, again: bool = False
) -> RunResult:
    monkeypatch.setattr(actions.run, "run_at", fake)
    return run_sweep(plan_of(), workspace, again=again)


def test_a_run_ends_with_what_won_and_a_report(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(Driver(), workspace, monkeypatch)
    assert result.exit_code == 0
    assert any("reverse_kl tau=2 (trial 1) won: rouge_l 30" in line for line in result.lines)
    assert result.report is not None
    assert "<!doctype html>" in result.report.read_text()
    assert [row["trial"] for row in result.to_json()["best"]] == [1, 0]
    times = known_times(workspace.home, plan_of().spec)
    assert times is not None and times.num_trials == len(ROWS)
    assert times.start_s is not None


def test_a_finished_sweep_is_returned_not_run_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Driver()
    run(fake, workspace, monkeypatch)
    second = run(fake, workspace, monkeypatch)
    third = run(fake, workspace, monkeypatch, again=True)
    assert [plan.sweep_id for plan in fake.plans] == [
        plan_of().sweep_id,
        f"{plan_of().sweep_id}-2",
    ]
    assert (second.done_before, third.done_before) == (True, False)
    assert second.best.records[0].metrics["rouge_l"] == 30.0


def test_a_run_tells_its_plan_first_then_what_its_driver_tells(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions.run, "run_at", Driver())
    events: list[RunEvent] = []
    run_sweep(plan_of(), workspace, on_event=events.append)
    assert events[0] == SweepBegins(plan_of())
    assert [type(event) for event in events[1:]] == [
        SlotsUp,
        *[TrialStarted, TrialEnded] * len(ROWS),
    ]


def test_a_stopped_sweep_is_no_success(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(Driver(TrialState.CANCELLED), workspace, monkeypatch).exit_code == 130


def test_a_sweep_without_any_result_says_why(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(Driver(fails=True), workspace, monkeypatch)
    assert result.exit_code == 1
    assert "2 of 2 trials failed; trial 0: KeyError: x" in result.lines


def test_a_fresh_id_is_the_next_that_is_free() -> None:
    assert fresh_id("a-1", {"a-1"}) == "a-1-2"
    assert fresh_id("a-1", {"a-1", "a-1-2"}) == "a-1-3"


def test_what_is_prepared_once_is_no_part_of_a_start() -> None:
    clock = iter([0.0, 7.0, 8.0, 50.0, 52.0, 60.0])
    start = StartTime(lambda: next(clock))
    for event in (
        Waiting("opening study and record"),
        Preparing("teacher fit", 0.1),
        Preparing("teacher fit", 0.9),
        Waiting("starting 2 slots"),
        SlotsUp(2, 2),
        SlotsUp(1, 2),
    ):
        start.take(event)
    assert start.seconds == 7 + 1 + 8
