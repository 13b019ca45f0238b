"""What a running sweep shows, from its events alone."""

import os
import signal
from io import StringIO
from itertools import count

import pytest
from fakes import make_sweep_plan
from rich.console import Console

from service.actions.run_result import SweepBegins
from service.cli.app import Screen
from service.cli.display import (
    LiveDisplay,
    PlainDisplay,
    RunDisplay,
    WatchDisplay,
    display_on,
    panel,
)
from service.cli.progress import SweepProgress
from service.errors import JobError
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
)
from service.states import TrialState

DONE = TrialState.COMPLETED


def progress_after(*events: DriverEvent, **plan: object) -> SweepProgress:
    """A clock that moves one second at each look."""
    clock = count()
    progress = SweepProgress(make_sweep_plan(**plan), lambda: float(next(clock)))
    for event in events:
        progress.take(event)
    return progress


def started(trial: int, label: str | None = None) -> TrialStarted:
    return TrialStarted(trial, 0, label, {"divergence": "forward_kl", "tau": 2.0 + trial})


def test_the_best_is_kept_in_the_objectives_direction() -> None:
    ends = (TrialEnded(0, DONE, 3.0), TrialEnded(1, DONE, 1.0), TrialEnded(2, DONE, 2.0))
    events = (started(0), started(1), started(2), *ends)
    highest = progress_after(*events)
    lowest = progress_after(*events, objective={"metric": "cross_entropy"})
    assert highest.best_text() == "rouge_l 3  trial 0: forward_kl tau=2"
    assert lowest.best_text() == "cross_entropy 1  trial 1: forward_kl tau=3"


def test_states_are_counted_against_the_plan() -> None:
    progress = progress_after(
        started(0),
        started(1),
        TrialEnded(0, DONE, 3.0),
        TrialEnded(1, TrialState.DIVERGED, None),
        started(2),
    )
    assert progress.counts() == "2 of 4 done (1 completed, 1 diverged)"
    assert list(progress.running) == [2]
    assert progress.share_done() == 0.5


def test_waiting_for_slots_is_no_part_of_the_pace() -> None:
    clock = iter([100.0, 110.0])
    progress = SweepProgress(make_sweep_plan(trials=2), lambda: next(clock))
    progress.take(started(0))
    progress.take(SlotsUp(1, 1))
    assert progress.eta_s() is None
    assert "about 10 s left" in str(progress.take(TrialEnded(0, DONE, 1.0)))


def test_a_time_budget_is_counted_down() -> None:
    now = [0.0]
    plan = make_sweep_plan(trials=None, time_budget_s=60)
    progress = SweepProgress(plan, lambda: now[0])
    progress.take(SlotsUp(2, 2))
    progress.take(started(0))
    now[0] = 10.0
    line = str(progress.take(TrialEnded(0, DONE, 1.0)))
    assert line.endswith("1 done (1 completed), 50 s left of the time budget")
    assert progress.share_done() == pytest.approx(1 / 6)
    now[0] = 70.0
    assert progress.left_text() == "time budget spent"
    assert progress.share_done() == 1.0


def test_a_time_budget_counts_from_where_the_driver_does() -> None:
    now = [0.0]
    plan = make_sweep_plan(trials=None, time_budget_s=60)
    progress = SweepProgress(plan, lambda: now[0])
    for what in ("starting Ray", "opening study and record"):
        progress.take(Waiting(what))
        assert progress.left_text() == ""
        now[0] += 10
    progress.take(Waiting("looking at models and data"))
    now[0] += 10
    assert progress.left_text() == "50 s left of the time budget"


def test_trials_may_end_before_their_time_budget() -> None:
    now = [0.0]
    progress = SweepProgress(make_sweep_plan(trials=2, time_budget_s=600), lambda: now[0])
    progress.take(SlotsUp(1, 1))
    now[0] = 10.0
    line = str(progress.take(TrialEnded(0, DONE, 1.0)))
    assert line.endswith("1 of 2 done (1 completed), about 10 s left")
    assert progress.share_done() == 0.5


def test_what_early_stopping_ended_is_not_the_best_so_far() -> None:
    ends = (TrialEnded(0, TrialState.STOPPED_EARLY, 9.0), TrialEnded(1, DONE, 1.0))
    progress = progress_after(started(0), started(1), *ends)
    assert progress.best_text() == "rouge_l 1  trial 1: forward_kl tau=3"


def test_a_wait_has_a_name_until_something_happens() -> None:
    now = [0.0]
    progress = SweepProgress(make_sweep_plan(), lambda: now[0])
    progress.take(Preparing("teacher cache", 1.0))
    assert progress.take(Waiting("starting 2 slots")) == "starting 2 slots …"
    now[0] = 7.0
    assert [line.rstrip() for line in shown_at(progress, 80)] == ["starting 2 slots … 7 s"]
    progress.take(SlotsUp(1, 2))
    progress.take(started(0))
    assert progress.wait.text() is None
    progress.take(Waiting("ending the slots"))
    assert shown_at(progress, 80)[-1].rstrip() == "ending the slots … 0 s"


def test_the_time_left_follows_the_pace() -> None:
    now = [0.0]
    progress = SweepProgress(make_sweep_plan(trials=5), lambda: now[0])
    progress.take(SlotsUp(2, 2))
    progress.take(started(0))
    now[0] = 10.0
    progress.take(TrialEnded(0, DONE, 1.0))
    assert progress.eta_s() == 40.0


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Preparing("teacher fit", 0.0), "preparing: teacher fit 0%"),
        (SlotsUp(1, 2), "slots ready: 1 of 2"),
        (started(7, "hard loss only"), "trial 7 started: hard loss only"),
        (TrialEvaluated(7, 1, {"rouge_l": 2.0}), None),
        (
            TrialEnded(7, TrialState.FAILED, None, "out of memory"),
            "trial 7 failed: out of memory; 1 of 4 done (1 failed)",
        ),
        (Notice("slot 1 was replaced"), "slot 1 was replaced"),
        (
            SweepEnded(SweepSummary("id", "run", "completed", {}, None, None, 1.0)),
            "sweep completed",
        ),
    ],
)
def test_each_event_has_its_line(event: DriverEvent, line: str | None) -> None:
    assert progress_after().take(event) == line


def test_a_stage_tells_its_quarters_and_the_time_left() -> None:
    now = [0.0]
    progress = SweepProgress(make_sweep_plan(), lambda: now[0])
    lines = []
    for share in (0.0, 0.1, 0.25, 0.4, 1.0):
        now[0] = 100 * share
        lines.append(progress.take(Preparing("teacher cache", share)))
    assert lines == [
        "preparing: teacher cache 0%",
        None,
        "preparing: teacher cache 25%, about 75 s left",
        None,
        "preparing: teacher cache 100%",
    ]


def test_a_sweep_that_goes_on_is_counted_on_and_timed_anew() -> None:
    before = SweepGoesOn({"completed": 7, "failed": 1}, 4, 9.0, None, {"tau": 2.0})
    progress = progress_after(trials=10)
    assert progress.take(before) == (
        "goes on: 8 of 10 done (7 completed, 1 failed); best so far: rouge_l 9  trial 4: tau=2"
    )
    assert progress.eta_s() is None, "nothing was seen of this driver's pace"
    progress.take(SlotsUp(1, 1))  # at second 0
    assert progress.eta_s() is None
    for event in (started(8), TrialEnded(8, DONE, 5.0)):
        progress.take(event)  # its line asks the clock: second 1
    assert progress.eta_s() == 1 * 2, "one trial took two seconds, and one is left"
    assert progress.best_text() == "rouge_l 9  trial 4: tau=2"
    assert progress.counts() == "9 of 10 done (8 completed, 1 failed)"


def shown_at(progress: SweepProgress, width: int) -> list[str]:
    console = Screen(width=width, file=StringIO(), record=True)
    console.print(panel(progress))
    return console.export_text().splitlines()


def test_the_panel_shows_the_stage_then_the_trials() -> None:
    def shown(progress: SweepProgress) -> str:
        console = Console(width=100, file=StringIO(), record=True)
        console.print(panel(progress))
        return console.export_text()

    assert "preparing: teacher fit" in shown(progress_after(Preparing("teacher fit", 0.25)))
    running = progress_after(
        SlotsUp(2, 2), started(0), TrialEvaluated(0, 2, {"rouge_l": 5.0}), Notice("slot replaced")
    )
    text = shown(running)
    for part in ("0 of 4 done", "trial 0", "evaluation 2", "rouge_l 5", "slot replaced"):
        assert part in text


def test_the_panel_shows_the_steps_inside_a_trial() -> None:
    progress = progress_after(SlotsUp(2, 2), started(0), started(1), TrialAdvanced(0, 40, 1200))
    rows = [line.rstrip() for line in shown_at(progress, 80) if "trial " in line]
    assert rows == [
        "  trial 0  forward_kl tau=2  step 40 of 1,200",
        "  trial 1  forward_kl tau=3  opening models",
    ]
    progress.take(TrialEvaluated(0, 1, {"rouge_l": 5.0}))
    assert progress.take(TrialAdvanced(0, 60, 1200)) is None, "a file needs no line for it"
    assert "trial 0  forward_kl tau=2  step 60 of 1,200  rouge_l 5" in "\n".join(
        shown_at(progress, 80)
    )
    progress.take(TrialEnded(0, DONE, 5.0))
    progress.take(TrialAdvanced(0, 70, 1200))
    assert list(progress.running) == [1], "another thread may say it late"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_panel_fits_the_terminal(width: int) -> None:
    name = "forward_kl policy=cist rho_per_log_vocab=0.6295"
    progress = progress_after(
        SlotsUp(2, 2), started(0, name), TrialAdvanced(0, 40, 1200), started(1), started(2)
    )
    for state in (DONE, TrialState.FAILED):
        number = 1 if state is DONE else 2
        progress.take(TrialEnded(number, state, 5.0 if state is DONE else None))
    lines = shown_at(progress, width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for word in (*name.split(), "1,200", "(1", "completed,"):
        assert word in words


def test_a_terminal_gets_the_panel_and_a_file_gets_lines() -> None:
    progress = progress_after()
    assert isinstance(display_on(Console(force_terminal=True), progress), LiveDisplay)
    console = Console(force_terminal=False, file=StringIO(), record=True, width=100)
    display = display_on(console, progress)
    assert isinstance(display, PlainDisplay)
    with display:
        display.on_event(SlotsUp(1, 1))
        display.on_event(started(0, "[bold]not markup"))
    assert "slots ready: 1 of 1\ntrial 0 started: [bold]not markup" in console.export_text()


def test_a_run_shows_its_plan_and_turns_ctrl_c_into_a_stop() -> None:
    console = Console(force_terminal=False, file=StringIO(), record=True, width=100)
    plan, before = make_sweep_plan(), signal.getsignal(signal.SIGINT)
    with RunDisplay(console, shows_plan=True) as display:
        assert signal.getsignal(signal.SIGINT) == before, "nothing runs that could be stopped"
        display.on_event(SweepBegins(plan))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Ray does when it starts
        display.on_event(SlotsUp(1, 1))
        os.kill(os.getpid(), signal.SIGINT)
        assert display.stop.wait(5)
        display.on_event(SweepEnded(SweepSummary("id", "run", "cancelled", {}, None, None, 1.0)))
        assert signal.getsignal(signal.SIGINT) == before
    shown = console.export_text()
    assert shown.index(f"sweep {plan.sweep_id}") < shown.index("slots ready: 1 of 1")
    assert "stopping: trials end at their next step" in shown


def test_an_error_in_a_run_gives_the_signals_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(JobError, match="lost"), RunDisplay(Console(file=StringIO())) as display:
        display.on_event(SweepBegins(make_sweep_plan()))
        raise JobError("lost")
    assert signal.getsignal(signal.SIGTERM) == before


def test_watching_leaves_the_signals_alone() -> None:
    console = Console(force_terminal=False, file=StringIO(), record=True, width=100)
    before = signal.getsignal(signal.SIGINT)
    with WatchDisplay(console) as display:
        display.on_event(SweepBegins(make_sweep_plan()))
        display.on_event(started(0))
        assert signal.getsignal(signal.SIGINT) == before
    assert console.export_text().startswith("trial 0 started")


@pytest.mark.parametrize(("kind", "command"), [(RunDisplay, "resume"), (WatchDisplay, "watch")])
def test_who_leaves_with_ctrl_c_is_told_how_to_go_on(
    kind: type[WatchDisplay], command: str
) -> None:
    console = Console(force_terminal=False, file=StringIO(), record=True, width=40)
    plan = make_sweep_plan()
    with pytest.raises(KeyboardInterrupt, match="twice"), kind(console) as display:
        display.on_event(SweepBegins(plan))
        raise KeyboardInterrupt("twice")
    assert console.export_text().endswith(f": kd-sweep {command} {plan.sweep_id}\n")
    with pytest.raises(KeyboardInterrupt, match="early"), kind(console):
        raise KeyboardInterrupt("early")
    assert console.export_text() == "", "nothing runs yet"
