"""A study that starts with what an earlier sweep found. Importing this file imports Optuna."""

from collections.abc import Iterable
from typing import Any

import optuna
from optuna.trial import TrialState as OptunaState

from service.search.study import StudyStore
from service.search.study_trials import IMPORTED, OUTCOME, Search, StudyTrial
from service.states import OPTUNA_STATE, TrialState

INSTRUCTIVE = frozenset({TrialState.COMPLETED, TrialState.STOPPED_EARLY, TrialState.DIVERGED})


def import_trials(
    store: StudyStore, records: Iterable[StudyTrial]
) -> tuple[int, list[tuple[StudyTrial, str]]]:
    """Gives the sampler finished trials of an earlier sweep; returns how many it could use (or had
    already), and each other one with the reason. They are no trials of this sweep."""
    # A driver that died while it imported begins again: what is there already is left out.
    known = {trial.user_attrs.get(IMPORTED) for trial in store.frozen_trials()}
    used, refused = 0, []
    for record in records:
        reason = unusable(store.search, record)
        if reason is not None:
            refused.append((record, reason))
            continue
        used += 1
        source = f"{record.sweep_id}/{record.number}"
        if source not in known:
            store.study.add_trial(_imported(store, record, source))
    store.num_drawn = store.count_drawn()
    return used, refused


def has_imported(store: StudyStore) -> bool:
    """Returns whether the study holds trials of an earlier sweep."""
    return any(IMPORTED in trial.user_attrs for trial in store.frozen_trials())


def unusable(search: Search, record: StudyTrial) -> str | None:
    """Returns why the sampler of `search` cannot learn from a trial, None when it can."""
    if record.state not in INSTRUCTIVE:
        return f"it is {record.state}"
    expected = len(search.directions)
    if record.state == TrialState.COMPLETED and len(record.objectives) != expected:
        return f"it has {len(record.objectives)} objective(s), this sweep has {expected}"
    return search.space.problem(record.values)


def _imported(store: StudyStore, record: StudyTrial, source: str) -> Any:
    completed = record.state == TrialState.COMPLETED
    point = store.search.space.snap(record.values) or record.values
    # Completed ones leave their intermediate values behind: another sweep's evaluations may mean
    # other amounts of training, and early stopping would compare with them.
    keep = not completed and not store.is_multi_objective
    return optuna.trial.create_trial(
        state=OptunaState[OPTUNA_STATE[record.state]],
        values=list(record.objectives) if completed else None,
        params=point,
        distributions=store.search.space.distributions(point),
        intermediate_values=dict(record.intermediate) if keep else {},
        user_attrs={
            IMPORTED: source,
            OUTCOME: {"state": record.state.value, "objectives": list(record.objectives)},
        },
    )
