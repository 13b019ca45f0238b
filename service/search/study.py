"""StudyStore, the one owner of a sweep's Optuna study: plain data in, plain data out.

The study is the truth of the search. Each call is on disk when it returns, and each may be
repeated, so a driver that died anywhere goes on from `reconcile`. Importing this file imports
Optuna.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState as OptunaState

from search_spaces.grid import GridSampler
from service.errors import JobError
from service.search.journal import open_storage
from service.search.study_trials import (
    ATTEMPT,
    IMPORTED,
    LABEL,
    OUTCOME,
    OUTSIDE,
    RETRY_OF,
    SPACE,
    STOPPED_AT,
    Asked,
    Search,
    StudyTrial,
    VisibleStudy,
    check_search,
    state_of,
    trial_of,
)
from service.states import OPTUNA_STATE, TrialState


class StudyStore:
    """See the module. Not for several threads or drivers at once."""

    def __init__(self, study: Any, search: Search) -> None:
        self._study = study
        self._search = search
        self._trials: dict[int, Any] = {}
        drawn = [trial for trial in self._all() if trial.state != OptunaState.WAITING]
        self._num_drawn = len(drawn)

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
            pruner=search.early_stopping.build(search.num_evaluations)
            or optuna.pruners.NopPruner(),
        )
        _check_same_search(study, search)
        return cls(study, search)

    @property
    def sweep_id(self) -> str:
        """The sweep, which is the study's name too."""
        return str(self._study.study_name)

    # -- the next trial

    def enqueue(self, values: Mapping[str, Any], *, label: str | None = None) -> None:
        """Puts a trial with exactly these hyperparameters in line before all sampled ones.

        A point of the space teaches the sampler; anything else runs as given, unseen by sampler and
        early stopping. A labelled trial is one that others are compared with: it is never stopped
        early.
        """
        attributes: dict[str, Any] = {} if label is None else {LABEL: label}
        self._enqueue(values, attributes)

    def retry(self, number: int) -> None:
        """Puts a new trial with the hyperparameters and the label of trial `number` in line.

        Raises `ValueError` unless that trial failed, was cancelled or diverged.
        """
        record = trial_of(self.sweep_id, self._frozen(number))
        if record.state not in (TrialState.FAILED, TrialState.CANCELLED, TrialState.DIVERGED):
            raise ValueError(
                f"trial {number} must have failed, diverged or been cancelled to be retried, "
                f"but got state {record.state}."
            )
        attributes: dict[str, Any] = {RETRY_OF: number}
        if record.label is not None:
            attributes[LABEL] = record.label
        self._enqueue(record.values, attributes)

    def ask(self) -> Asked | None:
        """Returns the next trial, now running: the first one in line, or what the sampler picks;
        None when the sampler has no point left to try (a grid that is through)."""
        self._study.sampler = self._search.sampler.build(self._search.space, self._num_drawn)
        if self._is_exhausted():
            return None
        trial = self._study.ask()
        self._num_drawn += 1
        self._trials[trial.number] = trial
        return self._asked(trial)

    # -- its way

    def report(self, number: int, evaluation: int, value: float) -> bool:
        """Stores the objective after evaluation `evaluation` (1..num_evaluations); returns whether
        the trial has to end: the verdict of early stopping, or a value that is not finite.

        A repeated evaluation (of a resumed attempt) changes nothing and gets the verdict it had.
        After the last evaluation, for labelled trials and with several objectives nothing is
        stopped.
        """
        trial = self._live(number)
        if trial is None or self._is_multi_objective:
            return False
        known = self._frozen(number)
        if evaluation in known.intermediate_values:
            return bool(known.user_attrs.get(STOPPED_AT) == evaluation)
        trial.report(value if math.isfinite(value) else math.nan, evaluation)
        if not self._must_end(trial, evaluation, value):
            return False
        trial.set_user_attr(STOPPED_AT, evaluation)
        return True

    def tell(
        self, number: int, state: TrialState, objectives: float | Sequence[float] | None = None
    ) -> TrialState:
        """Ends trial `number` in `state`; returns the state it has now.

        A completed trial needs its objective (one a direction); when that is not finite, the trial
        diverged. Of a stopped one the last reported value counts. Told again, the first word
        stands. Raises `ValueError` for a state that ends nothing, and a completed trial without
        objectives.
        """
        frozen = self._frozen(number)
        if frozen.state.is_finished():
            return state_of(frozen)
        state, values = self._settle(state, objectives)
        trial = self._live(number)
        if trial is None:
            raise ValueError(f"trial {number} must be running to be told, but got {frozen.state}.")
        trial.set_user_attr(OUTCOME, {"state": state.value, "objectives": values})
        self._finish(trial, state, values)
        return state

    # -- after a driver's death

    def begin_attempt(self, number: int) -> Asked:
        """Returns running trial `number` to be taken up again, its attempt counted one up."""
        trial = self._live(number)
        if trial is None:
            raise ValueError(f"trial {number} must be running to be taken up again.")
        trial.set_user_attr(ATTEMPT, self._frozen(number).user_attrs.get(ATTEMPT, 0) + 1)
        return self._asked(trial)

    def note_attempt(self, number: int, attempt: int) -> None:
        """Notes that running trial `number` is at this attempt, so that a driver after this one
        counts on from it."""
        trial = self._live(number)
        if trial is not None:
            trial.set_user_attr(ATTEMPT, attempt)

    def reconcile(self) -> list[Asked]:
        """Returns the trials that a dead driver left running, each as a new attempt. Those whose
        end was already decided (told half-way, or with a verdict of early stopping) are ended
        instead."""
        taken_up = []
        for frozen in self._all():
            if frozen.state != OptunaState.RUNNING:
                continue
            outcome = frozen.user_attrs.get(OUTCOME)
            if outcome is not None:
                trial = self._live(frozen.number)
                self._finish(trial, TrialState(outcome["state"]), outcome["objectives"])
            elif STOPPED_AT in frozen.user_attrs:
                last = frozen.intermediate_values[frozen.user_attrs[STOPPED_AT]]
                diverged = math.isnan(last)
                self.tell(
                    frozen.number, TrialState.DIVERGED if diverged else TrialState.STOPPED_EARLY
                )
            else:
                taken_up.append(self.begin_attempt(frozen.number))
        return taken_up

    # -- what it holds

    def counts(self) -> dict[TrialState, int]:
        """Returns the number of this sweep's trials in every state; imported ones do not count."""
        found = Counter(record.state for record in self.records())
        return {state: found[state] for state in TrialState}

    def records(self) -> list[StudyTrial]:
        """Returns this sweep's trials by number; imported ones are left out, so numbers may have
        gaps."""
        return [trial_of(self.sweep_id, t) for t in self._all() if IMPORTED not in t.user_attrs]

    def import_trials(
        self, records: Iterable[StudyTrial]
    ) -> tuple[int, list[tuple[StudyTrial, str]]]:
        """Gives the sampler finished trials of an earlier sweep; returns how many it could use (or
        had already), and each other one with the reason. They are no trials of this sweep."""
        known = {trial.user_attrs.get(IMPORTED) for trial in self._all()}
        used, refused = 0, []
        for record in records:
            reason = self._unusable(record)
            if reason is not None:
                refused.append((record, reason))
                continue
            used += 1
            source = f"{record.sweep_id}/{record.number}"
            if source not in known:
                self._study.add_trial(self._imported(record, source))
        self._num_drawn = sum(t.state != OptunaState.WAITING for t in self._all())
        return used, refused

    # -- inside

    @property
    def _is_multi_objective(self) -> bool:
        return len(self._search.directions) > 1

    def _all(self) -> list[Any]:
        # Past the study's own view, which hides the trials outside the space.
        study = self._study
        trials: list[Any] = study._storage.get_all_trials(study._study_id, deepcopy=False)
        return trials

    def _frozen(self, number: int) -> Any:
        study = self._study
        if number < 0:
            raise ValueError(f"a trial's number must be 0 or more, but got {number}.")
        try:
            known = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
        except KeyError:
            count = len(self._all())
            raise ValueError(
                f"trial must be one of the {count} of {self.sweep_id}, but got {number}."
            ) from None
        return study._storage.get_trial(known)

    def _live(self, number: int) -> Any:
        """Returns the running trial's Optuna object, or None when it does not run."""
        if number not in self._trials:
            frozen = self._frozen(number)
            if frozen.state != OptunaState.RUNNING:
                return None
            self._trials[number] = optuna.trial.Trial(self._study, frozen._trial_id)
        return self._trials[number]

    def _asked(self, trial: Any) -> Asked:
        attributes = trial.user_attrs
        values = attributes.get(OUTSIDE) or self._search.space.suggest(trial)
        attempt = self._frozen(trial.number).user_attrs.get(ATTEMPT, 0)
        return Asked(
            number=trial.number,
            values=dict(values),
            label=attributes.get(LABEL),
            attempt=attempt,
            retry_of=attributes.get(RETRY_OF),
        )

    def _enqueue(self, values: Mapping[str, Any], attributes: dict[str, Any]) -> None:
        if self._search.space.contains(values):
            self._study.enqueue_trial(dict(values), user_attrs=attributes)
        else:
            self._study.enqueue_trial({}, user_attrs=attributes | {OUTSIDE: dict(values)})

    def _is_exhausted(self) -> bool:
        sampler = self._study.sampler
        if not isinstance(sampler, GridSampler):
            return False
        waiting = any(trial.state == OptunaState.WAITING for trial in self._all())
        return not waiting and not sampler.untried(self._study)

    def _must_end(self, trial: Any, evaluation: int, value: float) -> bool:
        if not math.isfinite(value):
            return True
        attributes = trial.user_attrs
        if OUTSIDE in attributes or evaluation >= self._search.num_evaluations:
            return False
        # Labelled trials are asked about too: their values belong to the rungs of the others.
        return bool(trial.should_prune()) and LABEL not in attributes

    def _settle(
        self, state: TrialState, objectives: float | Sequence[float] | None
    ) -> tuple[TrialState, list[float]]:
        if not state.is_terminal:
            raise ValueError(f"a trial must be told a state that ends it, but got '{state}'.")
        if state != TrialState.COMPLETED:
            return state, []
        values = list(objectives) if isinstance(objectives, Sequence) else [objectives]
        if None in values or len(values) != len(self._search.directions):
            raise ValueError(
                f"a completed trial must have {len(self._search.directions)} objective(s), "
                f"but got {objectives}."
            )
        numbers = [float(value) for value in values if value is not None]
        if not all(math.isfinite(number) for number in numbers):
            return TrialState.DIVERGED, []
        return state, numbers

    def _finish(self, trial: Any, state: TrialState, objectives: list[float]) -> None:
        if state == TrialState.DIVERGED:
            self._mark_diverged(trial)
        self._study.tell(trial.number, objectives or None, state=OptunaState[OPTUNA_STATE[state]])
        self._trials.pop(trial.number, None)

    def _mark_diverged(self, trial: Any) -> None:
        """Makes TPE rank the trial last. The NaN alone does not: among pruned trials Optuna puts
        those first that got furthest, so one that diverged late would beat one that was stopped
        early."""
        if "diverged" not in trial.constraints:
            trial.set_constraint("diverged", 1.0)
        reported = self._frozen(trial.number).intermediate_values
        last = max(reported, default=0)
        if not self._is_multi_objective and not math.isnan(reported.get(last, 0.0)):
            trial.report(math.nan, last + 1)

    def _unusable(self, record: StudyTrial) -> str | None:
        if record.state not in (
            TrialState.COMPLETED,
            TrialState.STOPPED_EARLY,
            TrialState.DIVERGED,
        ):
            return f"it is {record.state}"
        expected = len(self._search.directions)
        if record.state == TrialState.COMPLETED and len(record.objectives) != expected:
            return f"it has {len(record.objectives)} objective(s), this sweep has {expected}"
        return self._search.space.problem(record.values)

    def _imported(self, record: StudyTrial, source: str) -> Any:
        completed = record.state == TrialState.COMPLETED
        # Completed ones leave their intermediate values behind: another sweep's evaluations may
        # mean other amounts of training, and early stopping would compare with them.
        keep = not completed and not self._is_multi_objective
        return optuna.trial.create_trial(
            state=OptunaState[OPTUNA_STATE[record.state]],
            values=list(record.objectives) if completed else None,
            params=record.values,
            distributions=self._search.space.distributions(record.values),
            intermediate_values=dict(record.intermediate) if keep else {},
            user_attrs={
                IMPORTED: source,
                OUTCOME: {"state": record.state.value, "objectives": list(record.objectives)},
            },
        )


def _check_same_search(study: Any, search: Search) -> None:
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
