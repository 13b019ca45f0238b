"""Hyperband as an Optuna pruner that leaves the sampler alone. Importing this file imports Optuna.

Optuna's own Hyperband also cuts the sampler's view down to the trial's bracket: with tens of trials
no bracket gets past the sampler's random start, and our study's view of its trials is lost.
"""

import math
import zlib
from dataclasses import dataclass
from typing import Any

import optuna


@dataclass(frozen=True)
class _BracketStudy:
    """The part of a study that successive halving reads, with the trials of one bracket only: so a
    trial is compared with its own bracket, and the study itself stays as samplers see it."""

    study: Any
    pruner: "BracketPruner"
    bracket: int

    @property
    def direction(self) -> Any:
        return self.study.direction

    @property
    def _storage(self) -> Any:
        return self.study._storage

    def get_trials(self, deepcopy: bool = True) -> list[Any]:
        return [
            trial
            for trial in self.study.get_trials(deepcopy=deepcopy)
            if self.pruner.bracket_of(trial.number) == self.bracket
        ]


class BracketPruner(optuna.pruners.BasePruner):  # type: ignore[misc]
    """Successive halving in brackets: bracket s has its first rung at evaluation
    `first` * `reduction_factor`**s (Li et al. 2018, where `first` is r and `last` is R)."""

    def __init__(self, first: int, last: int, *, reduction_factor: int) -> None:
        self._halvings = [
            optuna.pruners.SuccessiveHalvingPruner(
                min_resource=first, reduction_factor=reduction_factor, min_early_stopping_rate=rate
            )
            for rate in range(_num_brackets(first, last, reduction_factor))
        ]
        count = len(self._halvings)
        # Each bracket gets the share of trials that spends about the same budget in it.
        self._shares = [
            math.ceil(count * reduction_factor ** (count - 1 - rate) / (count - rate))
            for rate in range(count)
        ]

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Returns whether successive halving in the trial's own bracket stops it."""
        bracket = self.bracket_of(trial.number)
        verdict: bool = self._halvings[bracket].prune(_BracketStudy(study, self, bracket), trial)
        return verdict

    def bracket_of(self, number: int) -> int:
        """Returns the bracket of trial `number`, 0 being stopped soonest; the same everywhere."""
        # A hash of the number, not a draw or a count: a restarted driver has to find the same
        # bracket, and CRC-32 is the same in every process, unlike `hash`.
        place = zlib.crc32(str(number).encode()) % sum(self._shares)
        bracket = 0
        while place >= self._shares[bracket]:
            place -= self._shares[bracket]
            bracket += 1
        return bracket


def _num_brackets(first: int, last: int, factor: int) -> int:
    # As many as have a first rung within the budget: bracket s begins at first * factor**s.
    count = 1
    while first * factor**count <= last:
        count += 1
    return count
