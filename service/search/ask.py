"""Which trial is next: those in line first, in the order of entering it, then what the sampler
picks. Importing this file imports Optuna.
"""

from collections.abc import Mapping
from typing import Any

from search_spaces.grid import GridSampler
from service.search.study import StudyStore
from service.search.study_trials import (
    ATTEMPT,
    LABEL,
    OUTSIDE,
    RETRY_OF,
    Asked,
    state_of,
    trial_of,
)
from service.search.tell import hold
from service.states import TrialState

REPEATABLE = frozenset({TrialState.FAILED, TrialState.CANCELLED, TrialState.DIVERGED})


def enqueue(store: StudyStore, values: Mapping[str, Any], *, label: str | None = None) -> None:
    """Puts a trial with exactly these hyperparameters in line before all sampled ones.

    A point of the space teaches the sampler; anything else runs as given, unseen by sampler and
    early stopping. A labelled trial is one that others are compared with: it is never stopped
    early.
    """
    _enqueue(store, values, {} if label is None else {LABEL: label})


def retry(store: StudyStore, number: int) -> None:
    """Has trial `number` repeated: one that was cancelled under its number, by `reconcile`; of any
    other its hyperparameters and label by a new trial, which is put in line.

    Raises `ValueError` unless that trial failed, was cancelled or diverged.
    """
    record = trial_of(store.sweep_id, store.frozen(number))
    if record.is_held:
        hold(store, number, resumes=True)
        return
    if record.state not in REPEATABLE:
        raise ValueError(
            f"trial {number} must have failed, diverged or been cancelled to be retried, "
            f"but got state {record.state}."
        )
    attributes: dict[str, Any] = {RETRY_OF: number}
    if record.label is not None:
        attributes[LABEL] = record.label
    _enqueue(store, record.values, attributes)


def ask(store: StudyStore) -> Asked | None:
    """Returns the next trial, now running: the first one in line, or what the sampler picks; None
    when there is none left (a grid that is finished, a study that samples nothing)."""
    # A fresh sampler for each draw, seeded by how many were drawn: what it picks depends on the
    # study alone, never on how often its driver was restarted.
    store.study.sampler = store.search.sampler.build(store.search.space, store.num_drawn)
    if _is_exhausted(store):
        return None
    return asked_of(store, store.draw())


def asked_of(store: StudyStore, number: int) -> Asked:
    """Returns running trial `number` as it is handed out. Its point is drawn on the first call and
    stored, so that later calls return the same."""
    trial = store.running(number)
    attributes = trial.user_attrs
    values = attributes.get(OUTSIDE) or store.search.space.suggest(trial)
    return Asked(
        number=number,
        values=dict(values),
        label=attributes.get(LABEL),
        attempt=store.frozen(number).user_attrs.get(ATTEMPT, 0),
        retry_of=attributes.get(RETRY_OF),
    )


def _enqueue(store: StudyStore, values: Mapping[str, Any], attributes: dict[str, Any]) -> None:
    # Optuna never merges equal entries of its queue; whoever enqueues after a restart looks first
    # which labels and retries the study has already (`open_study`, `StudyChanges`).
    point = store.search.space.snap(values)
    if point is not None:
        store.study.enqueue_trial(point, user_attrs=attributes)
    else:
        store.study.enqueue_trial({}, user_attrs=attributes | {OUTSIDE: dict(values)})


def _is_exhausted(store: StudyStore) -> bool:
    sampler, only_in_line = store.study.sampler, store.search.only_in_line
    if not (only_in_line or isinstance(sampler, GridSampler)):
        return False
    if any(state_of(trial) is TrialState.PENDING for trial in store.frozen_trials()):
        return False
    return only_in_line or next(sampler.untried(store.study), None) is None
