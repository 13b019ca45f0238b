"""A run on this machine with the driver replaced: what is asked, shown, kept and returned."""

import os
import signal
import threading
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from records_support import make_store, make_tracker, plan_of, record_sweep, trial_of
from rich.console import Console

from service.actions import run as local_run
from service.actions.run import fresh_id, run_here, ui_command
from service.driver import driver
from service.events import SlotsUp, SweepSummary, TrialEnded, TrialStarted
from service.home import home_folder
from service.plan.measured import known_trial_s
from service.plan.plan import SweepPlan
from service.signals import StopOnSignal
from service.states import TrialState

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
        plan: SweepPlan,
        *,
        home: Path,
        tracking_uri: str,
        ray_address: str | None,
        on_event: Callable[[Any], None],
        stop: threading.Event,
    ) -> SweepSummary:
        self.plans.append(plan)
        on_event(SlotsUp(1, 1))
        for number, (values, metrics) in enumerate(ROWS):
            on_event(TrialStarted(number, 0, None, values))
            on_event(TrialEnded(number, TrialState.COMPLETED, metrics["rouge_l"]))
        run = (self._record_failures if self._fails else record_sweep)(
            tracking_uri, home, plan, ROWS
        )
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
def console() -> Console:
    return Console(file=StringIO(), record=True, width=140)


@pytest.fixture(autouse=True)
def store() -> None:
    make_store(home_folder())


def run(
    fake: Driver, console: Console, monkeypatch: pytest.MonkeyPatch, *, again: bool = False
) -> local_run.RunResult:
    monkeypatch.setattr(driver, "run_sweep", fake)
    return run_here(plan_of(), home=home_folder(), again=again, console=console)


def test_a_run_ends_with_what_won_and_a_picture(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(Driver(), console, monkeypatch)
    console.print(result.view())
    shown = console.export_text()
    assert result.exit_code == 0
    assert "reverse_kl tau=2 (trial 1) won: rouge_l 30" in shown
    assert "mlflow ui --backend-store-uri sqlite:///" in shown
    assert result.picture is not None
    assert "<!doctype html>" in result.picture.read_text()
    assert [row["trial"] for row in result.to_json()["best"]] == [1, 0]
    assert known_trial_s(home_folder(), plan_of().spec) is not None


def test_a_finished_sweep_is_shown_not_run_again(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Driver()
    run(fake, console, monkeypatch)
    second = run(fake, console, monkeypatch)
    third = run(fake, console, monkeypatch, again=True)
    assert [plan.sweep_id for plan in fake.plans] == [
        plan_of().sweep_id,
        f"{plan_of().sweep_id}-2",
    ]
    assert (second.done_before, third.done_before) == (True, False)
    assert second.best.records[0].metrics["rouge_l"] == 30.0
    console.print(second.view())
    assert "completed already; here is what it found" in console.export_text()


def test_a_stopped_sweep_is_no_success(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(Driver(TrialState.CANCELLED), console, monkeypatch)
    console.print(result.view())
    assert result.exit_code == 130
    assert "go on: the same kd-sweep run" in console.export_text()


def test_a_sweep_without_any_result_says_why(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(Driver(fails=True), console, monkeypatch)
    console.print(result.view())
    assert result.exit_code == 1
    assert "2 of 2 trials failed; trial 0: KeyError: x" in console.export_text()


def test_a_fresh_id_is_the_next_that_is_free() -> None:
    assert fresh_id("a-1", {"a-1"}) == "a-1-2"
    assert fresh_id("a-1", {"a-1", "a-1-2"}) == "a-1-3"


def test_a_server_has_a_page_and_a_file_a_command() -> None:
    assert ui_command("http://host:5000") == "http://host:5000"
    assert ui_command("sqlite:////x.db") == "mlflow ui --backend-store-uri sqlite:////x.db"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(
    number: signal.Signals, console: Console
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match="at once"), StopOnSignal(console.print) as stopper:
        os.kill(os.getpid(), number)
        assert stopper.stop.wait(5)
        os.kill(os.getpid(), number)
        assert stopper.stop.wait(5)
    assert signal.getsignal(number) == before
    assert "Ctrl-C again ends at once" in console.export_text()


def test_a_handler_that_was_replaced_is_set_again(console: Console) -> None:
    with StopOnSignal(console.print) as stopper:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stopper.install()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopper.stop.wait(5)
