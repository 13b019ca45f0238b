"""What a study searches and what its trials are, as plain data; Optuna's trials turned into ours.

Importing this file imports Optuna.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import TrialState as OptunaState

from search_spaces.samplers import Sampler
from search_spaces.space import SearchSpace
from service.errors import JobError
from service.search.early_stopping import EarlyStopping
from service.search.journal import read_storage
from service.states import TrialState
from trainers.trial.metrics import Direction, sign_of

# Optuna's user attributes of a trial, as we use them.
LABEL = "label"
OUTSIDE = "outside"  # all values of a trial that is no point of the space
ATTEMPT = "attempt"
RUN = "mlflow_run_id"
STOPPED_AT = "stopped_at"  # of `intermediate`: where early stopping gave its verdict
# Our state and objectives, stored before the trial ends in Optuna; of a cancelled one also whether
# the next driver takes it up. None once it was taken up.
OUTCOME = "outcome"
RESUMES = "resumes"
IMPORTED = "imported"  # sweep/number of a trial of an earlier sweep
RETRY_OF = "retry_of"
SPACE = "space"  # attribute of the study


@dataclass(frozen=True)
class Search:
    """What a study searches and how. Early stopping and several directions exclude each other.
    metrics: what each direction is of, as Optuna's dashboard names it; only_in_line: nothing is
    sampled, what was put in line is all there is."""

    space: SearchSpace
    sampler: Sampler
    early_stopping: EarlyStopping
    num_evaluations: int
    directions: tuple[Direction, ...] = ("maximize",)
    metrics: tuple[str, ...] = ()
    only_in_line: bool = False


@dataclass(frozen=True)
class Asked:
    """A trial to be run: its number (kept for ever), hyperparameters, label and attempt
    (0-based). `retry_of`: the number of the ended trial that this one repeats."""

    number: int
    values: dict[str, Any]
    label: str | None = None
    attempt: int = 0
    retry_of: int | None = None


@dataclass(frozen=True)
class StudyTrial:
    """A trial as the study holds it. `objectives` has one value for each direction, or is empty;
    `intermediate` maps evaluation numbers (1-based, as the study's longest trial counts them) to
    the objective, NaN where the trial diverged. `is_held`: cancelled, and to be taken up under its
    number if at all; an older version ended cancelled trials in Optuna, so that only another trial
    can repeat them."""

    sweep_id: str
    number: int
    attempt: int
    state: TrialState
    values: dict[str, Any]
    label: str | None = None
    objectives: tuple[float, ...] = ()
    intermediate: dict[int, float] = field(default_factory=dict)
    retry_of: int | None = None
    is_held: bool = False

    @property
    def objective(self) -> float | None:
        """The first objective, or None."""
        return self.objectives[0] if self.objectives else None


class VisibleStudy(optuna.Study):  # type: ignore[misc]
    """The study as samplers and pruners see it: without trials outside the space, whose objective
    says nothing about any point of it and whose missing parameters would shrink the modelled
    space."""

    # Both are private, so a new version of Optuna has to be checked against them. Its samplers and
    # pruners read trials through this one alone (`get_trials` and `trials` call it too).
    def _get_trials(
        self, deepcopy: bool = True, states: Any = None, use_cache: bool = False
    ) -> list[Any]:
        trials = super()._get_trials(deepcopy, states, use_cache)
        return [trial for trial in trials if OUTSIDE not in trial.user_attrs]

    def _pop_waiting_trial_id(self) -> int | None:
        """As Optuna's own, past those that are held back; a driver is alone in its study."""
        for trial in self._storage.get_all_trials(self._study_id, False, (OptunaState.WAITING,)):
            if state_of(trial) is TrialState.PENDING:
                self._storage.set_trial_state_values(trial._trial_id, OptunaState.RUNNING)
                return int(trial._trial_id)
        return None


def read_trials(storage: str, sweep_id: str) -> list[StudyTrial]:
    """Returns the trials of sweep `sweep_id` in `storage` by number, without the imported ones;
    changes nothing there, so it may run beside the sweep's driver.

    Raises `JobError` when the storage or the sweep does not exist, or the journal is broken.
    """
    opened = read_storage(storage)
    try:
        study = opened.get_study_id_from_name(sweep_id)
    except KeyError:
        names = [known.study_name for known in opened.get_all_studies()]
        raise JobError(
            f"{storage} must hold sweep '{sweep_id}', but got only: {', '.join(names) or 'none'}."
        ) from None
    trials = opened.get_all_trials(study, deepcopy=False)
    return [trial_of(sweep_id, t) for t in trials if IMPORTED not in t.user_attrs]


def best_trial(trials: Iterable[StudyTrial], direction: Direction) -> StudyTrial | None:
    """Returns the completed trial with the best first objective, the earliest of equals; None when
    none is completed."""
    sign = sign_of(direction)
    valued = [
        (sign * trial.objective, -trial.number, trial)
        for trial in trials
        if trial.state is TrialState.COMPLETED and trial.objective is not None
    ]
    return max(valued, key=lambda row: row[:2])[2] if valued else None


def trial_of(sweep_id: str, frozen: Any) -> StudyTrial:
    """Returns Optuna's trial `frozen` as ours; of one in line, the hyperparameters it will have."""
    attributes = frozen.user_attrs
    state = state_of(frozen)
    in_line = state is TrialState.PENDING
    params = frozen.system_attrs.get("fixed_params", {}) if in_line else frozen.params
    counts = state in (TrialState.COMPLETED, TrialState.STOPPED_EARLY)
    return StudyTrial(
        sweep_id=sweep_id,
        number=frozen.number,
        attempt=attributes.get(ATTEMPT, 0),
        state=state,
        values=dict(attributes.get(OUTSIDE) or params),
        label=attributes.get(LABEL),
        objectives=tuple(frozen.values or ()) if counts else (),
        intermediate=dict(frozen.intermediate_values),
        retry_of=attributes.get(RETRY_OF),
        is_held=state is TrialState.CANCELLED and not frozen.state.is_finished(),
    )


def state_of(frozen: Any) -> TrialState:
    """Returns our state of Optuna's trial `frozen`."""
    if frozen.state == OptunaState.RUNNING:
        return TrialState.RUNNING
    outcome = frozen.user_attrs.get(OUTCOME)
    if outcome is None and frozen.state == OptunaState.WAITING:
        return TrialState.PENDING
    return TrialState(frozen.user_attrs[OUTCOME]["state"])


def check_search(search: Search) -> None:
    """Raises `ValueError` when sampler or early stopping cannot do what `search` asks for."""
    search.sampler.check(search.space, len(search.directions))
    if len(search.directions) > 1 and search.early_stopping.kind != "none":
        raise ValueError(
            "early_stopping: kind must be none with several objectives, which have no order, "
            f"but got {search.early_stopping.kind}. Use early_stopping: {{kind: none}}."
        )
