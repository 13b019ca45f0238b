"""Puts the trials of a controlled study in line, as far as they are decided: where learning rates
are tuned, what is compared follows from the tuning trials. No Ray, no clock.

The Optuna study is the truth here, too: what it holds already is not put in line again, and a cell
whose comparison has begun keeps its learning rate, whatever is tuned later. So a driver that died
between any two lines leaves what the next one completes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.plan.plan import SweepPlan
from service.plan.study import LEARNING_RATE, StudyPlan, key_of
from service.search.ask import ask, enqueue
from service.search.study import StudyStore
from service.search.study_trials import Asked, StudyTrial
from service.states import Role, TrialState
from trainers.trial.metrics import Direction, sign_of


@dataclass
class StudyLine:
    """The line of one sweep's study; of a search it is empty, and complete from the start."""

    plan: SweepPlan
    store: StudyStore

    def __post_init__(self) -> None:
        self._is_complete = self.plan.study is None

    def fill(self) -> None:
        """Puts in line all that is decided by now and not in the study yet."""
        study = self.plan.study
        if self._is_complete or study is None:
            return
        records = self.store.records()
        known = {key_of(record.values) for record in records}
        wanted = list(study.tuning_trials())
        self._is_complete = not _unfinished(study, records)
        if self._is_complete:
            direction = self.plan.spec.objective[0].direction
            wanted += study.compared_trials(chosen_rates(study, records, direction))
        for cell, values in wanted:
            if key_of(values) not in known:
                enqueue(self.store, values, label=cell.control)

    def ask(self) -> Asked | None:
        """Returns the next trial, now running; None when there is none. See `search.ask`."""
        self.fill()
        return ask(self.store)

    def is_waiting(self) -> bool:
        """Returns whether nothing is in line, and what comes next is decided by trials that have
        not ended."""
        self.fill()
        return not self._is_complete and not self.store.counts()[TrialState.PENDING]


def _unfinished(study: StudyPlan, records: Sequence[StudyTrial]) -> list[str]:
    """Returns the tuning trials that have not ended, or were never in line."""
    over = {key_of(record.values) for record in records if record.state.is_terminal}
    over -= {key_of(record.values) for record in records if not record.state.is_terminal}
    wanted = [key_of(values) for _, values in study.tuning_trials()]
    return [key for key in wanted if key not in over]


def chosen_rates(
    study: StudyPlan, records: Sequence[StudyTrial], direction: Direction
) -> dict[str, float]:
    """Returns the learning rate of each cell, by its label: the one that its comparison has begun
    with, else the best one that completed, the first of equals. A cell without either has none."""
    sign = sign_of(direction)
    begun: dict[str, float] = {}
    best: dict[str, tuple[float, float]] = {}
    rates = study.tune.learning_rate if study.tune else ()
    for record in sorted(records, key=lambda one: _place(one, rates)):
        cell, rate = study.cell_of(record.values), record.values.get(LEARNING_RATE)
        if cell is None or rate is None:
            continue
        if study.role_of(record.values) is Role.COMPARED:
            begun.setdefault(cell.label, rate)
        elif record.state is TrialState.COMPLETED and record.objective is not None:
            value = sign * record.objective
            if cell.label not in best or value > best[cell.label][0]:
                best[cell.label] = (value, rate)
    return {label: rate for label, (_, rate) in best.items()} | begun


def num_undecided(plan: SweepPlan, records: Sequence[StudyTrial]) -> int:
    """Returns how many trials of a study will never be in line: those of cells whose tuning trials
    have all ended and left no learning rate."""
    study = plan.study
    if study is None or study.tune is None or _unfinished(study, records):
        return 0
    rates = chosen_rates(study, records, plan.spec.objective[0].direction)
    return len(study.seeds) * sum(cell.label not in rates for cell in study.cells)


def _place(record: StudyTrial, rates: Sequence[float]) -> int:
    """Returns the place of a trial's rate in the list of those to try: by it equals are told, not
    by which of them ended first."""
    rate = record.values.get(LEARNING_RATE)
    return rates.index(rate) if rate in rates else len(rates)


def compared(plan: SweepPlan, records: Sequence[StudyTrial]) -> list[StudyTrial]:
    """Returns the trials without those that only choose a study's learning rates."""
    return [one for one in records if not plan.is_tuning(one.values)]
