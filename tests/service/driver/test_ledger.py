"""What the ledger decides and records, with a real study."""

import math
from pathlib import Path

import optuna
import pytest
from ledger_support import done, ended, evaluated, make_desk, take

from service.events import Notice, TrialEnded, TrialEvaluated, TrialStarted
from service.search.ask import enqueue
from service.slots.messages import Message
from service.states import TrialState
from trainers.trial.assignments import Ending, Report, Vote
from trainers.trial.reporting import Leave, Outcome


def test_the_budget_is_handed_out_and_no_more(tmp_path: Path) -> None:
    desk = make_desk(tmp_path, trials=2)
    ledger, _ = desk.open()
    tickets = [take(ledger), take(ledger)]
    assert ledger.next_ticket() is None
    assert [ticket.trial.trial for ticket in tickets] == [0, 1]
    assert tickets[0].trial.config.tau != tickets[1].trial.config.tau
    assert tickets[0].trial.numerics == {"precision": "auto"}
    assert desk.memory.started == [(0, 0), (1, 0)]


@pytest.mark.parametrize(("ratio", "warned"), [(0.2, True), (0.5, False), (3.0, True)])
def test_a_logit_scale_out_of_range_at_the_end_is_recorded(
    tmp_path: Path, ratio: float, warned: bool
) -> None:
    desk = make_desk(tmp_path, trials=2)
    ledger, _ = desk.open()
    ledger.receive(ended(take(ledger), done(rouge_l=1.0, logit_scale_ratio=ratio)))
    stopped = take(ledger)
    report = Report(1, 1, {"rouge_l": math.nan, "logit_scale_ratio": ratio})
    ledger.receive(Message("evaluated", stopped.trial.trial, 0, "lease", report=report))
    assert desk.memory.finished.keys() == {"0", "1"}
    assert desk.memory.warnings.keys() == ({"0", "1"} if warned else set())


def test_controls_come_first_and_count(tmp_path: Path) -> None:
    desk = make_desk(tmp_path, trials=1, controls="default")
    ledger, _ = desk.open()
    while ledger.next_ticket():
        pass
    labels = [event.label for event in desk.of(TrialStarted)]
    assert labels[0] == "hard loss only"
    assert [label is None for label in labels] == [False, False, False, False, True]


def test_a_completed_trial_is_known_to_study_run_and_user(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger, store = desk.open()
    ticket = take(ledger)
    assert not ledger.receive(evaluated(ticket, 1, 10.0))
    assert not ledger.receive(ended(ticket, done(rouge_l=30.0)))
    (record,) = [r for r in store.records() if r.number == 0]
    assert (record.state, record.objective) == (TrialState.COMPLETED, 30.0)
    assert record.intermediate == {1: 10.0}
    assert store.frozen(0).user_attrs["mlflow_run_id"] == "0"
    assert desk.memory.finished == {"0": (TrialState.COMPLETED, 30.0, None)}
    assert desk.of(TrialEnded) == [TrialEnded(0, TrialState.COMPLETED, 30.0)]
    assert desk.of(TrialEvaluated)[0].metrics["cross_entropy"] == 1.0


def test_a_verdict_stops_the_trial_and_frees_its_slot(tmp_path: Path) -> None:
    stopping = {"kind": "median", "grace": 0.25}
    desk = make_desk(tmp_path, trials=12, evaluation={"evaluations": 4}, early_stopping=stopping)
    ledger, store = desk.open()
    for _ in range(8):
        ticket = take(ledger)
        for evaluation in range(1, 5):
            assert not ledger.receive(evaluated(ticket, evaluation, 30.0))
        ledger.receive(ended(ticket, done(rouge_l=30.0)))
    weak = take(ledger)
    stops = [ledger.receive(evaluated(weak, evaluation, 1.0)) for evaluation in range(1, 4)]
    assert True in stops
    number = weak.trial.trial
    assert desk.memory.finished[str(number)] == (TrialState.STOPPED_EARLY, 1.0, None)
    assert (f"{number}-0", Leave.VERDICT) in desk.released
    assert ledger.receive(evaluated(weak, 4, 99.0)), "what comes late changes nothing"
    assert {r.number: r.state for r in store.records()}[number] is TrialState.STOPPED_EARLY


@pytest.mark.parametrize("kind", ["successive_halving", "median", "hyperband"])
@pytest.mark.parametrize("evaluations", [10, 4000])
def test_verdicts_come_from_the_evaluations_that_take_place(
    tmp_path: Path, kind: str, evaluations: int
) -> None:
    """Ten steps are evaluated ten times, however often a sweep asks for it."""
    desk = make_desk(
        tmp_path,
        trials=24,
        training={"steps": 10},
        evaluation={"evaluations": evaluations},
        early_stopping={"kind": kind, "grace": 0.3},
    )
    ledger, _ = desk.open()
    ends = []
    for level in range(24):  # each worse than all before it
        ticket, last = take(ledger), 10
        for evaluation in range(1, 11):
            if ledger.receive(evaluated(ticket, evaluation, 30.0 - level)):
                last = evaluation
                break
        else:
            ledger.receive(ended(ticket, done(rouge_l=30.0 - level)))
        ends.append(last)
    # The rungs are 3 and 6, and a later bracket of Hyperband begins at 6.
    stopped = {"successive_halving": {3}, "median": {3}, "hyperband": {3, 6}}[kind]
    assert set(ends) - {10} == stopped
    assert ends[0] == 10


def test_a_trial_of_epochs_is_not_stopped_at_its_last_evaluation(tmp_path: Path) -> None:
    # The fake data are one example, so each trial is one step and one evaluation.
    desk = make_desk(
        tmp_path,
        trials=8,
        training={"epochs": 1},
        evaluation={"evaluations": 5},
        early_stopping={"kind": "successive_halving", "grace": 0.3},
    )
    ledger, store = desk.open()
    store.expect_evaluations(1)
    for level in range(8):
        assert not ledger.receive(evaluated(take(ledger), 1, 30.0 - level))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_objective_that_is_not_finite_has_diverged(tmp_path: Path, value: float) -> None:
    desk = make_desk(tmp_path)
    ledger, store = desk.open()
    assert ledger.receive(evaluated(take(ledger), 1, value))
    assert not ledger.receive(ended(take(ledger), done(rouge_l=value)))
    assert store.counts()[TrialState.DIVERGED] == 2
    assert {state for state, _, _ in desk.memory.finished.values()} == {TrialState.DIVERGED}


def test_a_trial_that_diverged_by_its_loss_teaches_the_study(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger, store = desk.open()
    ledger.receive(ended(take(ledger), done(Outcome.DIVERGED)))
    (record,) = [r for r in store.records() if r.number == 0]
    assert record.state is TrialState.DIVERGED


def test_a_failed_trial_keeps_its_reason(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger, _ = desk.open()
    ledger.receive(ended(take(ledger), Vote(Ending.ERROR, error="ValueError: cursed")))
    state, objective, error = desk.memory.finished["0"]
    assert (state, objective) == (TrialState.FAILED, None)
    assert error is not None and "cursed" in error


def test_a_trial_without_the_objective_failed(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger, _ = desk.open()
    ledger.receive(ended(take(ledger), done(cross_entropy=1.0)))
    assert desk.memory.finished["0"] == (
        TrialState.FAILED,
        None,
        "the trial did not measure rouge_l",
    )


def test_a_retry_goes_on_in_the_same_run(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger, _ = desk.open()
    ticket = take(ledger)
    vote = Vote(Ending.LOST, error="signal 9")
    assert not ledger.receive(Message("retrying", 0, 1, "0-0", vote=vote))
    ledger.receive(ended(ticket, done(rouge_l=30.0)))
    assert desk.memory.started == [(0, 0), (0, 1)]
    assert [event.attempt for event in desk.of(TrialStarted)] == [0, 1]


def test_the_next_driver_counts_on_from_a_retry(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger, _ = desk.open()
    take(ledger)
    ledger.receive(Message("retrying", 0, 2, "0-1", vote=Vote(Ending.LOST, error="signal 9")))
    again, _ = desk.open()
    assert take(again).trial.attempt == 3


def test_stopping_hands_nothing_out_and_closes_what_is_open(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger, store = desk.open()
    first, _ = take(ledger), take(ledger)
    ledger.stop()
    assert ledger.next_ticket() is None
    number = first.trial.trial
    ledger.receive(Message("cancelled", number, 0, f"{number}-0"))
    ledger.close()
    assert store.counts()[TrialState.CANCELLED] == 2
    assert {state for state, _, _ in desk.memory.finished.values()} == {TrialState.CANCELLED}


def test_a_trial_that_left_with_its_sweep_is_the_last_one(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger, store = desk.open()
    number = take(ledger).trial.trial
    ledger.receive(Message("cancelled", number, 0, "0-0", reason=Leave.SWEEP_STOPPED))
    assert ledger.next_ticket() is None, "before the driver has seen the stop"
    assert store.counts()[TrialState.CANCELLED] == 1


def test_a_trial_that_was_cancelled_alone_makes_room_for_the_next(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger, store = desk.open()
    number = take(ledger).trial.trial
    ledger.receive(Message("cancelled", number, 0, "0-0", reason=Leave.CANCELLED))
    assert take(ledger).trial.trial == number + 1
    assert store.counts()[TrialState.CANCELLED] == 1


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.COMPLETED, TrialState.COMPLETED),
        (Outcome.DIVERGED, TrialState.DIVERGED),
        (Outcome.STOPPED_EARLY, TrialState.STOPPED_EARLY),
        (Outcome.CANCELLED, TrialState.CANCELLED),
        (Outcome.INTERRUPTED, TrialState.CANCELLED),
    ],
)
def test_an_outcome_becomes_the_state_of_its_name(
    tmp_path: Path, outcome: Outcome, state: TrialState
) -> None:
    desk = make_desk(tmp_path)
    ledger, _ = desk.open()
    ledger.receive(ended(take(ledger), done(outcome, rouge_l=1.0)))
    assert desk.memory.finished["0"][0] is state


def test_an_abandoned_trial_failed_unless_it_had_its_end(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger, _ = desk.open()
    first, second = take(ledger), take(ledger)
    ledger.receive(ended(first, done(rouge_l=1.0)))
    for ticket in (first, second):
        ledger.abandoned(ticket.trial.trial, "its actor died")
    assert desk.memory.finished["0"][0] is TrialState.COMPLETED
    assert desk.memory.finished["1"] == (TrialState.FAILED, None, "its actor died")


def test_a_driver_after_a_dead_one_takes_up_what_ran_and_the_rest(tmp_path: Path) -> None:
    desk = make_desk(tmp_path, trials=3)
    ledger, _ = desk.open()
    first, running = take(ledger), take(ledger)
    ledger.receive(ended(first, done(rouge_l=1.0)))
    again, store = desk.open()
    tickets = [take(again), take(again)]
    assert again.next_ticket() is None
    assert [(t.trial.trial, t.trial.attempt) for t in tickets] == [(1, 1), (2, 0)]
    assert tickets[0].trial.config == running.trial.config
    for ticket in tickets:
        again.receive(ended(ticket, done(rouge_l=2.0)))
    assert store.counts()[TrialState.COMPLETED] == 3


def test_a_spent_time_budget_hands_nothing_out(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger, _ = desk.open()
    take(ledger)
    desk.out_of_time = True
    assert ledger.next_ticket() is None


def test_a_cancelled_trial_goes_on_under_its_number_from_its_checkpoints(tmp_path: Path) -> None:
    desk = make_desk(tmp_path, trials=1)
    ledger, _ = desk.open()
    ticket = take(ledger)
    checkpoints = Path(ticket.output) / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "last").touch()
    ledger.close()
    desk.memory.finished.clear()  # its run is set back to running
    again, store = desk.open()
    repeat = take(again)
    assert repeat.trial == ticket.trial.model_copy(update={"attempt": 1})
    assert repeat.output == ticket.output
    assert (checkpoints / "last").exists()
    again.receive(ended(repeat, done(rouge_l=2.0)))
    assert again.next_ticket() is None
    last, store = desk.open()
    assert last.next_ticket() is None, "it is taken up once"
    assert store.counts()[TrialState.COMPLETED] == len(store.records()) == 1


@pytest.mark.parametrize(
    ("reason", "resumes"),
    [(Leave.SWEEP_STOPPED, True), (Leave.ABANDONED, True), (Leave.CANCELLED, False)],
)
def test_a_stop_of_the_sweep_is_undone_by_the_next_driver_that_of_a_trial_is_not(
    tmp_path: Path, reason: Leave, resumes: bool
) -> None:
    desk = make_desk(tmp_path, trials=1)
    ledger, _ = desk.open()
    take(ledger)
    ledger.receive(Message("cancelled", 0, 0, "0-0", reason=reason))
    again, _ = desk.open()
    assert (again.next_ticket() is not None) == resumes


def test_a_trial_that_an_older_version_cancelled_is_repeated_from_its_checkpoints(
    tmp_path: Path,
) -> None:
    desk = make_desk(tmp_path, trials=1)
    ledger, store = desk.open()
    ticket = take(ledger)
    checkpoints = Path(ticket.output) / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "last").touch()
    store.running(0).set_user_attr("outcome", {"state": "cancelled", "objectives": []})
    store.study.tell(0, state=optuna.trial.TrialState.FAIL)
    again, store = desk.open()
    repeat = take(again)
    assert (repeat.trial.trial, repeat.trial.config) == (1, ticket.trial.config)
    assert (Path(repeat.output) / "checkpoints" / "last").exists()
    assert again.next_ticket() is None


def test_who_gives_slots_back_hears_how_many_trials_are_open(tmp_path: Path) -> None:
    desk = make_desk(tmp_path, trials=2)
    ledger, _ = desk.open()
    first, second = take(ledger), take(ledger)
    assert desk.open_trials == [], "others may come"
    assert ledger.next_ticket() is None
    ledger.receive(ended(first, done(rouge_l=1.0)))
    ledger.receive(ended(second, done(rouge_l=2.0)))
    assert desk.open_trials == [2, 1, 0]


def test_what_a_trial_says_is_a_notice_with_its_number(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger, _ = desk.open()
    ticket = take(ledger)
    assert not ledger.receive(Message("said", 0, 0, "0-0", text="the disk is full"))
    assert desk.events[-1] == Notice("trial 0 says: the disk is full")
    ledger.receive(ended(ticket, done(rouge_l=2.0)))
    assert desk.memory.finished["0"][0] is TrialState.COMPLETED


def test_an_invalid_point_fails_and_the_sweep_goes_on(tmp_path: Path) -> None:
    desk = make_desk(tmp_path, trials=1)
    ledger, store = desk.open()
    enqueue(store, {"tau": -1.0}, label="wrong")
    again, store = desk.open()
    ticket = again.next_ticket()
    (failed,) = desk.of(TrialEnded)
    assert failed.state is TrialState.FAILED
    assert "tau" in failed.error
    assert ticket is None or ticket.trial.trial == 1
