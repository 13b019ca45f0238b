"""What a running trial reports, and how it ends. Importing this file imports Optuna."""

import math
from collections.abc import Sequence
from typing import Any

from optuna.trial import TrialState as OptunaState

from service.search.study import StudyStore
from service.search.study_trials import (
    LABEL,
    OUTCOME,
    OUTSIDE,
    RESUMES,
    STOPPED_AT,
    state_of,
)
from service.states import OPTUNA_STATE, TrialState


def report_value(
    store: StudyStore, number: int, *, evaluation: int, value: float, last: int | None = None
) -> bool:
    """Stores the objective after evaluation `evaluation` (1-based); returns whether the trial has
    to end: the verdict of early stopping, or a value that is not finite.

    last: the trial's last evaluation; default: that of the study's longest trial. Shorter trials
    are compared with it at the same share of their budget. A repeated evaluation (of a resumed
    attempt) changes nothing and gets the verdict it had. After the last evaluation, for labelled
    trials and with several objectives nothing is stopped.
    """
    longest = store.search.num_evaluations
    step = _as_of_the_longest(evaluation, last or longest, longest)
    trial = store.running(number)
    if trial is None or store.is_multi_objective:
        return False
    known = store.frozen(number)
    if step in known.intermediate_values:
        return bool(known.user_attrs.get(STOPPED_AT) == step)
    trial.report(value if math.isfinite(value) else math.nan, step)
    is_last = evaluation >= (last or longest)
    if not _must_end(trial, is_last=is_last, value=value):
        return False
    # Stored before the trial is stopped: the pruner asked again after a restart, when the study
    # holds more trials, could decide otherwise.
    trial.set_user_attr(STOPPED_AT, step)
    return True


def tell(
    store: StudyStore,
    number: int,
    state: TrialState,
    objectives: float | Sequence[float] | None = None,
    *,
    resumes: bool = False,
) -> TrialState:
    """Ends trial `number` in `state`; returns the state it has now. resumes: whether the next
    driver takes the cancelled trial up.

    A completed trial needs its objective (one for each direction); when that is not finite, the
    trial diverged. Of a stopped one the last reported value counts. A trial that has ended keeps
    its first end. Raises `ValueError` for a state that ends nothing, and a completed trial without
    objectives.
    """
    frozen = store.frozen(number)
    if state_of(frozen).is_terminal:
        return state_of(frozen)
    state, values = _outcome(store, state, objectives)
    trial = store.running(number)
    if trial is None:
        raise ValueError(f"trial {number} must be running to be ended, but got {frozen.state}.")
    # Optuna has one state for several of ours, and the step below is several transactions: with the
    # outcome stored first, a driver killed between them finds in `reconcile` how to end the trial.
    if state is TrialState.CANCELLED:
        hold(store, number, resumes=resumes)
        return state
    trial.set_user_attr(OUTCOME, {"state": state.value, "objectives": values})
    finish(store, number, state, values)
    return state


def hold(store: StudyStore, number: int, *, resumes: bool) -> None:
    """Ends running trial `number` as cancelled, or says of one that is whether it `resumes`.

    Optuna never runs a trial again that it has ended. So this one waits there, where `ask` passes
    it by, until `reconcile` takes it up under its number.
    """
    storage, trial_id = store.study._storage, store.frozen(number)._trial_id
    outcome = {"state": TrialState.CANCELLED.value, "objectives": [], RESUMES: resumes}
    storage.set_trial_user_attr(trial_id, OUTCOME, outcome)
    storage.set_trial_state_values(trial_id, OptunaState.WAITING)
    store.forget(number)


def finish(store: StudyStore, number: int, state: TrialState, objectives: Sequence[float]) -> None:
    """Brings running trial `number`, whose outcome is stored, to its end in Optuna."""
    if state == TrialState.DIVERGED:
        _mark_diverged(store, number)
    store.study.tell(number, list(objectives) or None, state=OptunaState[OPTUNA_STATE[state]])
    store.forget(number)


def _as_of_the_longest(evaluation: int, last: int, longest: int) -> int:
    """Returns which evaluation of the longest trial a trial of `last` has come to: rounded down, so
    that none is judged before the share of its budget that is its grace."""
    return evaluation * max(longest, last) // last


def _must_end(trial: Any, *, is_last: bool, value: float) -> bool:
    if not math.isfinite(value):
        return True
    attributes = trial.user_attrs
    if OUTSIDE in attributes or is_last:
        return False
    # The pruner is asked about labelled trials too: successive halving stores there which rungs a
    # trial has reached, and others are compared with its value.
    return bool(trial.should_prune()) and LABEL not in attributes


def _outcome(
    store: StudyStore, state: TrialState, objectives: float | Sequence[float] | None
) -> tuple[TrialState, list[float]]:
    """Returns the state that the trial ends in, and its objectives when it is completed."""
    if not state.is_terminal:
        raise ValueError(f"a trial's end must be a final state, but got '{state}'.")
    if state != TrialState.COMPLETED:
        return state, []
    values = list(objectives) if isinstance(objectives, Sequence) else [objectives]
    if None in values or len(values) != len(store.search.directions):
        raise ValueError(
            f"a completed trial must have {len(store.search.directions)} objective(s), "
            f"but got {objectives}."
        )
    numbers = [float(value) for value in values if value is not None]
    if not all(math.isfinite(number) for number in numbers):
        return TrialState.DIVERGED, []
    return state, numbers


def _mark_diverged(store: StudyStore, number: int) -> None:
    """Makes TPE rank the trial last. The NaN alone does not: among pruned trials Optuna puts those
    first that got furthest, so one that diverged late would beat one that was stopped early."""
    trial = store.running(number)
    # Both steps look first: a driver killed after one of them does them again in `reconcile`.
    if "diverged" not in trial.constraints:
        trial.set_constraint("diverged", 1.0)
    reported = store.frozen(number).intermediate_values
    last = max(reported, default=0)
    if not store.is_multi_objective and not math.isnan(reported.get(last, 0.0)):
        trial.report(math.nan, last + 1)
