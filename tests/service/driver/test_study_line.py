"""A study's trials in line: compared seed by seed; tuned first, and compared at what was best."""

from pathlib import Path
from typing import Any

import pytest
from fakes import make_study_document
from ledger_support import Desk, done, ended, take

from service.driver.ledger import Ledger, num_left
from service.driver.open_study import apply_changes, so_far
from service.driver.study_changes import StudyChanges
from service.driver.study_line import chosen_rates
from service.plan.estimates import InputFacts
from service.plan.plan import SweepPlan, make_plan
from service.plan.resources import Resources
from service.search.study_trials import StudyTrial
from service.slots.messages import Ticket
from service.spec.parse import parse_spec
from service.states import TrialState
from trainers.trial.assignments import Ending, Vote

TUNE = {"learning_rate": [1e-3, 1e-2], "seed": 9}
FAILED = Vote(Ending.ERROR, None, "broken")


def plan_of(**changes: Any) -> SweepPlan:
    spec = parse_spec(make_study_document(**changes))
    return make_plan(spec, InputFacts(), Resources(num_cpus=2), code_version="1")


def place(ticket: Ticket) -> tuple[float | None, int, float]:
    config = ticket.trial.config
    return config.tau, config.seed, config.learning_rate


def run(ledger: Ledger, score: Any, most: int = 100) -> list[tuple[float | None, int, float]]:
    """Trains what is handed out, one trial at a time; a score of None fails it."""
    seen = []
    while len(seen) < most and (ticket := ledger.next_ticket()) is not None:
        seen.append(place(ticket))
        value = score(*seen[-1])
        ledger.receive(ended(ticket, FAILED if value is None else done(rouge_l=value)))
    return seen


def favour(tau: float, seed: int, rate: float) -> float:
    """Of tau 1 the larger rate is better, of tau 2 the smaller."""
    return rate * (1 if tau == 1 else -1)


def test_cells_are_handed_out_seed_by_seed_and_no_more(tmp_path: Path) -> None:
    ledger, store = Desk(tmp_path, plan_of()).open()
    seen = [(tau, seed) for tau, seed, _ in run(ledger, favour)]
    assert seen == [(1, 0), (2, 0), (1, 1), (2, 1)]
    assert store.counts()[TrialState.COMPLETED] == 4


def test_a_killed_driver_leaves_what_the_next_one_completes(tmp_path: Path) -> None:
    plan = plan_of()
    ledger, _ = Desk(tmp_path, plan).open()
    run(ledger, favour, most=1)
    take(ledger)  # was running when its driver died
    ledger, _ = Desk(tmp_path, plan).open()
    seen = [(tau, seed) for tau, seed, _ in run(ledger, favour)]
    assert seen == [(2, 0), (1, 1), (2, 1)]


def test_each_cell_is_compared_at_the_rate_that_was_best_for_it(tmp_path: Path) -> None:
    ledger, _ = Desk(tmp_path, plan_of(tune=TUNE)).open()
    seen = run(ledger, favour)
    assert seen[:4] == [(1, 9, 1e-3), (2, 9, 1e-3), (1, 9, 1e-2), (2, 9, 1e-2)]
    assert seen[4:] == [(1, 0, 1e-2), (2, 0, 1e-3), (1, 1, 1e-2), (2, 1, 1e-3)]


def test_what_is_compared_waits_for_what_still_tunes(tmp_path: Path) -> None:
    ledger, _ = Desk(tmp_path, plan_of(tune=TUNE)).open()
    tickets = []
    while not ledger.has_to_wait:
        tickets.append(take(ledger))
    assert len(tickets) == 4
    for ticket in tickets[:3]:
        ledger.receive(ended(ticket, done(rouge_l=favour(*place(ticket)))))
        assert ledger.has_to_wait
    ledger.receive(ended(tickets[3], done(rouge_l=favour(*place(tickets[3])))))
    assert not ledger.has_to_wait
    assert place(take(ledger)) == (1, 0, 1e-2)


def test_a_sweep_that_stops_waits_for_nothing(tmp_path: Path) -> None:
    ledger, _ = Desk(tmp_path, plan_of(tune=TUNE)).open()
    for _ in range(4):
        take(ledger)
    assert ledger.has_to_wait
    ledger.stop()
    assert not ledger.has_to_wait
    assert ledger.next_ticket() is None


def test_a_driver_killed_while_it_tunes_or_compares_comes_to_the_same(tmp_path: Path) -> None:
    plan = plan_of(tune=TUNE)
    whole = run(Desk(tmp_path / "whole", plan).open()[0], favour)
    for most in range(len(whole)):
        folder = tmp_path / str(most)
        begun, _ = Desk(folder, plan).open()
        seen = run(begun, favour, most=most)
        take(begun)
        ledger, _ = Desk(folder, plan).open()
        assert seen + run(ledger, favour) == whole


def test_a_sweep_stopped_while_it_tunes_goes_on_tuning(tmp_path: Path) -> None:
    plan = plan_of(tune=TUNE)
    begun, _ = Desk(tmp_path, plan).open()
    seen = run(begun, favour, most=3)
    take(begun)
    begun.stop()
    begun.close()
    ledger, _ = Desk(tmp_path, plan).open()
    assert (seen + run(ledger, favour))[3:5] == [(2, 9, 1e-2), (1, 0, 1e-2)]


def test_a_cell_whose_tuning_failed_is_not_compared(tmp_path: Path) -> None:
    ledger, store = Desk(tmp_path, plan_of(tune=TUNE)).open()

    def score(tau: float, seed: int, rate: float) -> float | None:
        return None if tau == 2 else rate

    assert run(ledger, score)[4:] == [(1, 0, 1e-2), (1, 1, 1e-2)]
    assert store.counts()[TrialState.PENDING] == 0


def test_nothing_is_left_of_a_study_whose_tuning_failed(tmp_path: Path) -> None:
    plan = plan_of(tune=TUNE)
    ledger, store = Desk(tmp_path, plan).open()
    assert num_left(plan, store) == 8
    run(ledger, lambda tau, seed, rate: None)
    assert num_left(plan, store) == 0
    list(apply_changes(StudyChanges(retry_failed=True), store, plan, home=tmp_path))
    assert num_left(plan, store) > 0


def test_a_repeated_tuning_trial_brings_its_cell_back(tmp_path: Path) -> None:
    plan = plan_of(tune=TUNE)
    ledger, _ = Desk(tmp_path, plan).open()
    run(ledger, lambda tau, seed, rate: None if tau == 2 else rate)
    ledger, store = Desk(tmp_path, plan).open()
    list(apply_changes(StudyChanges(retry_failed=True), store, plan, home=tmp_path))
    again, _ = Desk(tmp_path, plan).open()
    assert run(again, favour) == [(2, 9, 1e-3), (2, 9, 1e-2), (2, 0, 1e-3), (2, 1, 1e-3)]


def test_a_cell_keeps_the_rate_that_its_comparison_began_with() -> None:
    study = plan_of(tune=TUNE).study
    assert study is not None

    def trial(number: int, rate: float, seed: int, value: float) -> StudyTrial:
        values = {"tau": 1, "learning_rate": rate, "seed": seed}
        return StudyTrial("s", number, 0, TrialState.COMPLETED, values, objectives=(value,))

    tuning = [trial(0, 1e-2, 9, 1.0), trial(1, 1e-3, 9, 1.0)]
    assert chosen_rates(study, tuning, "maximize") == {"tau=1": 1e-3}, "of equals the first listed"
    better = [trial(2, 1e-2, 9, 5.0)]
    assert chosen_rates(study, [*tuning, *better], "maximize") == {"tau=1": 1e-2}
    assert chosen_rates(study, [*tuning, *better], "minimize") == {"tau=1": 1e-3}
    begun = [trial(3, 1e-3, 0, 2.0)]
    assert chosen_rates(study, [*tuning, *better, *begun], "maximize") == {"tau=1": 1e-3}


def test_the_best_so_far_is_of_what_is_compared(tmp_path: Path) -> None:
    plan = plan_of(tune=TUNE)
    ledger, store = Desk(tmp_path, plan).open()
    run(ledger, lambda tau, seed, rate: 100.0 if seed == 9 else tau, most=6)
    told = so_far(store, plan)
    assert told is not None
    assert (told.objective, told.best) == (2, 5)


def test_more_seeds_come_behind(tmp_path: Path) -> None:
    run(Desk(tmp_path, plan_of()).open()[0], favour)
    plan = plan_of()
    assert plan.study is not None
    more = plan.model_copy(
        update={
            "study": plan.study.model_copy(update={"seeds": (0, 1, 2)}),
            "num_trials": 6,
        }
    )
    ledger, _ = Desk(tmp_path, more).open()
    assert [(tau, seed) for tau, seed, _ in run(ledger, favour)] == [(1, 2), (2, 2)]


@pytest.mark.parametrize("controls", ["none", "default"])
def test_a_control_keeps_its_label_on_every_seed(tmp_path: Path, controls: str) -> None:
    ledger, store = Desk(tmp_path, plan_of(controls=controls)).open()
    run(ledger, favour)
    labels = [record.label for record in store.records()]
    assert labels.count("hard loss only") == (2 if controls == "default" else 0)
