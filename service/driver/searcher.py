"""Where Ray Tune meets the ledger: a searcher that asks it for trials, a scheduler that asks for
verdicts.

Both are thin: what a trial is and what a result means is decided in `service.driver.ledger`. Tune
calls them from the thread that is inside `Tuner.fit`, one call at a time.
"""

import time
from collections.abc import Callable
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from service.driver.ledger import Ledger
from service.slots.messages import Message
from service.slots.trial import MESSAGE

POLL_S = 0.05


class LedgerSearcher(Searcher):  # type: ignore[misc]  # Ray has no types
    """Gives Tune the ledger's next trial, and tells the ledger of trials whose actor died for good.
    `num_slots`: returns how many slots have workers."""

    def __init__(self, ledger: Ledger, num_slots: Callable[[], int]) -> None:
        super().__init__()
        self._ledger, self._num_slots = ledger, num_slots
        self._numbers: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Returns nothing: Tune pickles its parts into state files that are never read here, and a
        ledger holds locks and connections, which cannot be pickled."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the next trial's ticket; None while no slot is free, or it is not decided yet
        which comes next, and Tune asks again; or Tune's word for "there are no more"."""
        # A trial that waited for its slot would have the wait in its time.
        if not self._wait_for_slot() or self._ledger.has_to_wait:
            return None
        # Once told that there are no more, Tune never asks again: the ledger must not say so while
        # another trial may still come.
        ticket = self._ledger.next_ticket()
        if ticket is None:
            return str(Searcher.FINISHED)
        self._numbers[trial_id] = ticket.trial.trial
        return {"ticket": ticket}

    def _wait_for_slot(self) -> bool:
        """Returns whether a slot is free, or none is needed any more. Waits while no trial is open:
        Tune has nothing else to do then, and would sleep for a second before it asks again."""
        while not self._ledger.stopping and len(self._numbers) >= self._num_slots():
            if self._numbers:
                return False
            time.sleep(POLL_S)
        return True

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Closes the trial in the ledger when nothing else has."""
        # Tune also comes here after the ledger's own verdict or end; it closes a trial once.
        number = self._numbers.pop(trial_id)
        self._ledger.abandoned(number, "its Ray Tune actor died" if error else "Ray Tune ended it")

    def save(self, checkpoint_path: str) -> None:
        """Writes nothing: the Optuna study is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Reads nothing: the Optuna study is the state."""


class LedgerScheduler(FIFOScheduler):  # type: ignore[misc]  # Ray has no types
    """First in, first out; a trial stops when the ledger says so."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    def __getstate__(self) -> dict[str, Any]:
        """Returns nothing: Tune pickles its parts into state files that are never read here, and a
        ledger holds locks and connections, which cannot be pickled."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Passes the message on; returns Tune's STOP or CONTINUE."""
        message: Message = result[MESSAGE]
        stop = self._ledger.receive(message)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)
