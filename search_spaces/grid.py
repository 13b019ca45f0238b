"""An Optuna sampler that visits every point of a conditional space once.

Optuna's own grid crosses all parameters, so that under conditions it visits one point many times.
Importing this file imports Optuna.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import optuna

from search_spaces.numbers import Scalar
from search_spaces.space import Point, SearchSpace


class GridSampler(optuna.samplers.BaseSampler):  # type: ignore[misc]
    """Gives each new trial the first point of the grid that no trial of the study holds yet,
    whatever its state, so a resumed study goes on where it stood. A full grid starts over."""

    def __init__(self, space: SearchSpace, points_per_range: int) -> None:
        self._space = space
        self._points_per_range = points_per_range
        self._chosen: tuple[int, Point] = (-1, {})

    def untried(self, study: optuna.Study) -> Iterator[Point]:
        """Yields the points of the grid that no trial of the study holds, in the grid's order."""
        # Never the list of all points: a grid may have more than memory holds.
        tried = {_key(self._snap(trial.params)) for trial in study.get_trials(deepcopy=False)}
        return (point for point in self._points() if _key(point) not in tried)

    def _points(self) -> Iterator[Point]:
        return self._space.enumerate(self._points_per_range)

    def _snap(self, values: Mapping[str, Any]) -> Point:
        """Returns what a study holds as the space has it; a study keeps an enqueued value as it was
        written."""
        snapped = {name: self._space.domains[name].snap(value) for name, value in values.items()}
        return {name: values[name] if one is None else one for name, one in snapped.items()}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, Any]:
        """Returns nothing: values are handed out one by one, as the conditions ask for them."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, Any]
    ) -> dict[str, Any]:
        """Returns nothing, as `infer_relative_search_space` asked for."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Scalar:
        """Returns the value of `param_name` at the trial's point of the grid."""
        # Optuna asks name by name. A trial's point is chosen at its first question and kept for the
        # others, since `untried` may change in between, with several trials at once.
        number, point = self._chosen
        if number != trial.number or param_name not in point:
            point = self._choose(study, trial, param_name)
            self._chosen = (trial.number, point)
        return point[param_name]

    def _choose(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, param_name: str
    ) -> Point:
        # A trial that was cut short while it was sampled keeps the values that it already has.
        kept = self._snap(trial.params)
        # Of a full grid none is untried: it starts over.
        for point in chain(self.untried(study), self._points()):
            if param_name in point and kept.items() <= point.items():
                return point
        raise ValueError(
            f"the grid must have a point with '{param_name}' beside what a trial has, but got "
            f"{kept}. Give an enqueued trial a value for every active hyperparameter."
        )


def _key(point: Point) -> frozenset[tuple[str, str, Scalar]]:
    # True and 1 are equal and have one hash, but are two choices; 1 and 1.0 are one.
    return frozenset((name, str(isinstance(value, bool)), value) for name, value in point.items())
