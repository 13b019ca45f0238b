"""What a driver does with the trials that the one before it left running, or cancelled with its
sweep. Importing this file imports Optuna.
"""

import math
from typing import Any

from optuna.trial import TrialState as OptunaState

from service.search.ask import asked_of
from service.search.study import StudyStore
from service.search.study_trials import ATTEMPT, OUTCOME, RESUMES, RUN, STOPPED_AT, Asked
from service.search.tell import finish, hold, tell
from service.states import TrialState


def reconcile(store: StudyStore) -> list[Asked]:
    """Returns the trials that a dead driver left running, and the cancelled ones that are to be
    taken up, each as a new attempt. Those whose end was already decided (its outcome stored, or a
    verdict of early stopping) are ended instead.

    Done again after any kill it does the same: a trial is either still running, with what was
    decided about it, or ended.
    """
    # The list is read once, before anything changes; each trial's own end or attempt is stored
    # before the next is looked at.
    resumed = []
    for frozen in store.frozen_trials():
        outcome = frozen.user_attrs.get(OUTCOME)
        if outcome is not None and outcome.get(RESUMES):
            _take_up(store, frozen)
        elif frozen.state != OptunaState.RUNNING or _end_decided(store, frozen):
            continue
        resumed.append(begin_attempt(store, frozen.number))
    return resumed


def _take_up(store: StudyStore, frozen: Any) -> None:
    """Sets a cancelled trial back to running."""
    storage = store.study._storage
    # A driver that dies between the two leaves a trial that runs and resumes: it comes here again.
    storage.set_trial_state_values(frozen._trial_id, OptunaState.RUNNING)
    storage.set_trial_user_attr(frozen._trial_id, OUTCOME, None)


def begin_attempt(store: StudyStore, number: int) -> Asked:
    """Returns running trial `number` to be trained again from its checkpoint, its attempt counted
    one up. Raises `ValueError` when it is not running."""
    if store.running(number) is None:
        raise ValueError(f"trial {number} must be running to be taken up again.")
    note_attempt(store, number, store.frozen(number).user_attrs.get(ATTEMPT, 0) + 1)
    return asked_of(store, number)


def note_attempt(store: StudyStore, number: int, attempt: int) -> None:
    """Stores that running trial `number` is at this attempt, so that the next driver counts on from
    it. Does nothing when the trial is not running."""
    trial = store.running(number)
    if trial is not None:
        trial.set_user_attr(ATTEMPT, attempt)


def note_run(store: StudyStore, number: int, run_id: str) -> None:
    """Stores which run of MLflow records trial `number`, for whoever looks at the study alone. Does
    nothing when the trial is not running, or it is stored already."""
    trial = store.running(number)
    if trial is not None and trial.user_attrs.get(RUN) != run_id:
        trial.set_user_attr(RUN, run_id)


def _end_decided(store: StudyStore, frozen: Any) -> bool:
    """Ends a trial whose end was decided before its driver died; returns whether it was."""
    # In the order of how far `tell` and `report_value` came: with the outcome stored only Optuna's
    # own end is missing; with the verdict alone, the trial was stopped or about to be.
    outcome = frozen.user_attrs.get(OUTCOME)
    if outcome is not None and outcome["state"] == TrialState.CANCELLED:
        hold(store, frozen.number, resumes=False)
        return True
    if outcome is not None:
        finish(store, frozen.number, TrialState(outcome["state"]), outcome["objectives"])
        return True
    if STOPPED_AT not in frozen.user_attrs:
        return False
    last = frozen.intermediate_values[frozen.user_attrs[STOPPED_AT]]
    state = TrialState.DIVERGED if math.isnan(last) else TrialState.STOPPED_EARLY
    tell(store, frozen.number, state)
    return True
