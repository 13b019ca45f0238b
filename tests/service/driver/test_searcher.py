"""When Ray Tune gets a trial: when a slot is free. No Ray is started."""

from types import SimpleNamespace
from typing import Any


def make_searcher(ledger: Any, num_slots: Any) -> Any:
    from service.driver.searcher import LedgerSearcher  # loads Ray Tune

    return LedgerSearcher(ledger, num_slots)


def make_ledger(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"stopping": False, "has_to_wait": False} | fields)


def test_nothing_comes_while_it_is_not_decided_what() -> None:
    ledger = make_ledger(has_to_wait=True, next_ticket=lambda: 1 / 0)
    assert make_searcher(ledger, lambda: 2).suggest("a") is None


def test_a_trial_comes_when_its_slot_is_there_and_no_sooner() -> None:
    tickets = [SimpleNamespace(trial=SimpleNamespace(trial=number)) for number in range(2)]
    ledger = make_ledger(next_ticket=lambda: tickets.pop(0))
    looks = iter([0, 0, 1, 1, 2])
    searcher = make_searcher(ledger, lambda: next(looks))
    assert searcher.suggest("a")["ticket"].trial.trial == 0
    assert searcher.suggest("b") is None, "the one slot is taken: Tune asks again"
    assert searcher.suggest("b")["ticket"].trial.trial == 1


def test_a_sweep_that_stops_waits_for_no_slot() -> None:
    ledger = make_ledger(stopping=True, next_ticket=lambda: None)
    assert make_searcher(ledger, lambda: 0).suggest("a") == "FINISHED"
