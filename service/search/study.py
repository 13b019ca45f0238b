"""StudyStore, the open Optuna study of a sweep, and what it holds as plain data.

The study is the truth of the search. What changes it is beside this file, a module for each verb:
`ask`, `tell`, `recover`, `warm_start`. Each call there is stored when it returns, and may be
repeated, so a driver that died anywhere goes on from `recover.reconcile`. Importing this file
imports Optuna.
"""

import warnings
from collections import Counter
from dataclasses import replace
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState as OptunaState

from service.errors import JobError
from service.search.journal import open_storage
from service.search.study_trials import (
    IMPORTED,
    SPACE,
    Search,
    StudyTrial,
    VisibleStudy,
    check_search,
    state_of,
    trial_of,
)
from service.states import TrialState


class StudyStore:
    """An open study. For one driver, and one of its threads, at a time.

    study: Optuna's; search: what it searches; num_drawn: how many trials have left the line, those
    of earlier sweeps included.
    """

    def __init__(self, study: optuna.Study, search: Search) -> None:
        self.study = study
        self.search = search
        self._running: dict[int, optuna.trial.Trial] = {}
        self.num_drawn = self.count_drawn()

    @classmethod
    def open(cls, storage: str, sweep_id: str, search: Search) -> "StudyStore":
        """Returns the store of sweep `sweep_id`, made when absent; `storage` is the path of a
        journal file or a database URL.

        Raises `JobError` when the journal is broken or the study was made for another space or
        other directions, `PlanError` when the database is unreachable, and `ValueError` when the
        sampler or early stopping cannot do what `search` asks for.
        """
        check_search(search)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        opened = open_storage(storage)
        if sweep_id not in [known.study_name for known in opened.get_all_studies()]:
            optuna.create_study(
                storage=opened, study_name=sweep_id, directions=list(search.directions)
            )
        study = VisibleStudy(
            study_name=sweep_id,
            storage=opened,
            sampler=search.sampler.build(search.space),
            pruner=_pruner(search),
        )
        _check_same_search(study, search)
        _name_metrics(study, search)
        return cls(study, search)

    def expect_evaluations(self, count: int) -> None:
        """Has early stopping count on `count` evaluations a trial, which may be known only when the
        data is there."""
        self.search = replace(self.search, num_evaluations=count)
        self.study.pruner = _pruner(self.search)

    @property
    def sweep_id(self) -> str:
        """The sweep, which is the study's name too."""
        return str(self.study.study_name)

    @property
    def is_multi_objective(self) -> bool:
        """Whether trials have several objectives, which no pruner can compare."""
        return len(self.search.directions) > 1

    def records(self) -> list[StudyTrial]:
        """Returns this sweep's trials by number; imported ones are left out, so numbers may have
        gaps."""
        return [trial_of(self.sweep_id, t) for t in self.frozen_trials() if not _is_imported(t)]

    def counts(self) -> dict[TrialState, int]:
        """Returns the number of this sweep's trials in every state; imported ones do not count."""
        found = Counter(record.state for record in self.records())
        return {state: found[state] for state in TrialState}

    def count_drawn(self) -> int:
        """Returns the number of trials that are not in line any more, imported ones included."""
        return sum(state_of(trial) is not TrialState.PENDING for trial in self.frozen_trials())

    def frozen_trials(self) -> list[Any]:
        """Returns Optuna's record of every trial, imported ones and those outside the space too."""
        # Asks the storage: the study's own view hides the trials outside the space.
        trials: list[Any] = self.study._storage.get_all_trials(self.study._study_id, deepcopy=False)
        return trials

    def frozen(self, number: int) -> Any:
        """Returns Optuna's record of trial `number` as it is now. Raises `ValueError` when there is
        no such trial."""
        if number < 0:
            raise ValueError(f"a trial's number must be 0 or more, but got {number}.")
        storage, study_id = self.study._storage, self.study._study_id
        try:
            trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, number)
        except KeyError:
            count = len(self.frozen_trials())
            raise ValueError(
                f"trial must be one of the {count} of {self.sweep_id}, but got {number}."
            ) from None
        return storage.get_trial(trial_id)

    def draw(self) -> int:
        """Starts the trial that is first in line, or one that the sampler picks; returns its
        number."""
        # Kept, not made again from its number: the sampler has drawn its relative parameters
        # already, and a second object would draw others.
        trial = self.study.ask()
        self._running[trial.number] = trial
        self.num_drawn += 1
        return int(trial.number)

    def running(self, number: int) -> Any:
        """Returns the Optuna object of trial `number` that values are reported to, or None when the
        trial is not running. One that an earlier driver asked for gets a new object."""
        if number not in self._running:
            frozen = self.frozen(number)
            if frozen.state != OptunaState.RUNNING:
                return None
            self._running[number] = optuna.trial.Trial(self.study, frozen._trial_id)
        return self._running[number]

    def forget(self, number: int) -> None:
        """Drops the object of a trial that has ended."""
        self._running.pop(number, None)


def _pruner(search: Search) -> Any:
    return search.early_stopping.build(search.num_evaluations) or optuna.pruners.NopPruner()


def _is_imported(frozen: Any) -> bool:
    return IMPORTED in frozen.user_attrs


def _check_same_search(study: optuna.Study, search: Search) -> None:
    directions = tuple(direction.name.lower() for direction in study.directions)
    if directions != search.directions:
        raise JobError(
            f"study {study.study_name}: directions must stay {', '.join(directions)}, "
            f"but got {', '.join(search.directions)}. Start another sweep."
        )
    written = search.space.to_search()
    known = study.user_attrs.get(SPACE)
    if known is None:
        study.set_user_attr(SPACE, written)
    elif known != written:
        raise JobError(
            f"study {study.study_name}: the search space must stay {known}, but got {written}. "
            "Start another sweep; it can learn from this one."
        )


def _name_metrics(study: optuna.Study, search: Search) -> None:
    """Names what the study's values are, once: a journal grows with all that is written to it."""
    if search.metrics and study.metric_names != list(search.metrics):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(list(search.metrics))
