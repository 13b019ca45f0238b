"""What a controlled study trains: its cells, each on the same seeds, and before them, where the
learning rate is tuned, the trials that choose it. Pure.

A trial's own values say which cell it is of and what for: beside them nothing has to be kept, so
that whatever holds a trial's values (the Optuna study, a run's params) holds its place as well.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from service.plan.trials import control_trials
from service.spec.document import SweepSpec
from service.spec.study import SEED, Tune, points_of, seeds_in
from service.states import Role
from service.words import describe
from trainers.trial.config import GROUPS
from trainers.trial.strict import Strict

LEARNING_RATE = "learning_rate"
SHARED_SECTIONS = ("training", "student.adapter", "text", "data", "evaluation")
Values = dict[str, Any]


class Cell(Strict):
    """A config that is compared, its seed and a tuned learning rate left open. `label` is its own
    within the study; control: the name of the control that it is, None for any other cell. One that
    the document lists itself has that name beside its own label."""

    label: str
    values: Values
    control: str | None = None


class StudyPlan(Strict):
    """Cells times seeds. `held_fixed`: what all cells share, by the name of a trial's field."""

    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    tune: Annotated[Tune | None, Field(description="None: the learning rate is given")] = None
    held_fixed: dict[str, Any] = Field(default_factory=dict)

    @property
    def num_tuning_trials(self) -> int:
        """How many trials only choose learning rates."""
        return len(self.cells) * len(self.tune.learning_rate) if self.tune else 0

    @property
    def num_trials(self) -> int:
        """All trials: tuning, and cells times seeds."""
        return self.num_tuning_trials + len(self.cells) * len(self.seeds)

    def tuning_trials(self) -> Iterator[tuple[Cell, Values]]:
        """Yields each cell with the values of its tuning trials: rate by rate over all cells."""
        for rate in self.tune.learning_rate if self.tune else ():
            for cell in self.cells:
                assert self.tune is not None
                yield cell, cell.values | {LEARNING_RATE: rate, SEED: self.tune.seed}

    def compared_trials(self, rates: Mapping[str, float]) -> Iterator[tuple[Cell, Values]]:
        """Yields each cell with the values of the trials that are compared: seed by seed over all
        cells, so that a study that is stopped is about balanced. rates: the learning rate of each
        cell's label where they are tuned; a cell without one is left out."""
        for seed in self.seeds:
            for cell in self.cells:
                if self.tune is None:
                    yield cell, cell.values | {SEED: seed}
                elif cell.label in rates:
                    yield cell, cell.values | {LEARNING_RATE: rates[cell.label], SEED: seed}

    def role_of(self, values: Mapping[str, Any]) -> Role:
        """Returns what a trial with these values is for."""
        is_tuning = self.tune is not None and values.get(SEED) == self.tune.seed
        return Role.TUNING if is_tuning else Role.COMPARED

    def cell_of(self, values: Mapping[str, Any]) -> Cell | None:
        """Returns the cell of a trial with these values; None for a trial of none of them."""
        placed = {SEED} if self.tune is None else {SEED, LEARNING_RATE}
        key = key_of({name: value for name, value in values.items() if name not in placed})
        return next((cell for cell in self.cells if key_of(cell.values) == key), None)


def key_of(values: Mapping[str, Any]) -> str:
    """Returns what equal values have in common, whatever their order."""
    return json.dumps(values, sort_keys=True)


def make_study(spec: SweepSpec) -> tuple[StudyPlan, tuple[str, ...]]:
    """Returns the study of `spec` and what to tell of it: cells that are one are trained once."""
    # Controls come before all others: they are trained first on each seed.
    controls = [
        Cell(label=one.label, values=one.values, control=one.label) for one in control_trials(spec)
    ]
    cells, twice = _distinct(spec, controls, list(points_of(spec.cells, spec.search)))
    study = StudyPlan(
        cells=cells,
        seeds=seeds_in(spec.seeds),
        tune=spec.tune,
        held_fixed=held_fixed(spec),
    )
    return study, _told(twice)


def with_more(
    study: StudyPlan, spec: SweepSpec, *, seeds: int, points: Sequence[Values]
) -> tuple[StudyPlan, tuple[str, ...]]:
    """Returns the study with so many more seeds, the lowest that are free, and with more cells,
    those that it has not; and what to tell of those that it has."""
    used = {*study.seeds, *((study.tune.seed,) if study.tune else ())}
    cells, twice = _distinct(spec, study.cells, points)
    more = {"cells": cells, "seeds": (*study.seeds, *free_seeds(used, seeds))}
    return study.model_copy(update=more), _told(twice)


def free_seeds(used: set[int], num: int) -> tuple[int, ...]:
    """Returns the `num` lowest seeds, from 0 on, that are not in `used`."""
    return tuple(seed for seed in range(num + len(used)) if seed not in used)[:num]


def held_fixed(spec: SweepSpec) -> Values:
    """Returns what all cells of a study share, by the name of a trial's field: budget, schedule,
    what is computed, data and evaluation; of the loss nothing, which is what is compared."""
    varied = {*spec.tried_names(), SEED}
    shared = spec.budget().model_dump(mode="json", exclude_none=True)
    return {
        name: value
        for name, value in shared.items()
        if GROUPS[name].section in SHARED_SECTIONS and name not in varied
    }


def _distinct(
    spec: SweepSpec, cells: Sequence[Cell], points: Sequence[Values]
) -> tuple[tuple[Cell, ...], list[str]]:
    """Returns `cells` with those of `points` that train as none of them does, and the labels of
    the others."""
    found = {_config_key(spec, cell.values): cell for cell in cells}
    taken, twice = {cell.label for cell in cells}, []
    for values in points:
        key, label = _config_key(spec, values), describe(values)
        same = found.get(key)
        if same is None:
            found[key] = Cell(label=_unique(label, taken), values=dict(values))
        elif same.control == same.label:
            found[key] = same.model_copy(update={"label": _unique(label, taken)})
        else:
            twice.append(label if same.label == label else f"{label} ({same.label})")
        taken.add(found[key].label)
    return tuple(found.values()), twice


def _config_key(spec: SweepSpec, values: Values) -> str:
    return spec.trial_config(values).model_dump_json()


def _unique(label: str, taken: set[str]) -> str:
    number = 2
    unique = label
    while unique in taken:
        unique, number = f"{label} ({number})", number + 1
    return unique


def _told(twice: Sequence[str]) -> tuple[str, ...]:
    if not twice:
        return ()
    verb = "is an earlier one" if len(twice) == 1 else "are earlier ones"
    return (f"cells: {', '.join(twice)} {verb} again and trained once",)
