"""The kinds of early stopping: their options, when each may stop a trial, and how each is built.

Steps are evaluation numbers 1..E of the longest trial, not optimiser steps: trials of other batch
sizes or lengths are compared at the same share of their budget. `build` imports Optuna; nothing
else here does.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Grace = Annotated[
    float,
    Field(
        ge=0.25,
        le=1,
        description="share of the evaluations before anything may be stopped; at least a quarter, "
        "because forward and reverse KL can cross late",
    ),
]
Factor = Annotated[int, Field(ge=2, le=10**6, description="one of so many trials passes each rung")]


class NoEarlyStopping(BaseModel):
    """Every trial trains to its budget."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["none"] = "none"

    def rungs(self, num_evaluations: int) -> list[int]:
        """Returns the evaluations after which a trial may be stopped: none."""
        return []

    def build(self, num_evaluations: int) -> None:
        """Returns None: nobody is asked."""
        return None


class _EarlyStopping(BaseModel):
    """What every kind that stops trials shares."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grace: Grace = 0.3

    def rungs(self, num_evaluations: int) -> list[int]:
        """Returns the evaluations (of 1..`num_evaluations`) after which a trial may be stopped. The
        last is never one of them: its trial has spent its budget already."""
        return list(range(self._first(num_evaluations), num_evaluations))

    def build(self, num_evaluations: int) -> Any:
        """Returns an `optuna.pruners.BasePruner` for trials of `num_evaluations` evaluations."""
        raise NotImplementedError

    def _first(self, num_evaluations: int) -> int:
        # 0.3 * 10 must be 3, whatever the last bit of the product says.
        return max(1, math.ceil(self.grace * num_evaluations - 1e-9))


class SuccessiveHalving(_EarlyStopping):
    """Asynchronous successive halving (Li et al. 2020): at each rung the best 1/`reduction_factor`
    of the trials that got there go on; rungs are `reduction_factor` times apart."""

    kind: Literal["successive_halving"] = "successive_halving"
    reduction_factor: Factor = 2

    def rungs(self, num_evaluations: int) -> list[int]:
        """Returns the evaluations after which a trial may be stopped; see the base class."""
        return _rungs(self._first(num_evaluations), self.reduction_factor, num_evaluations)

    def build(self, num_evaluations: int) -> Any:
        """Returns the Optuna pruner; see the base class."""
        import optuna

        return optuna.pruners.SuccessiveHalvingPruner(
            min_resource=self._first(num_evaluations), reduction_factor=self.reduction_factor
        )


class Median(_EarlyStopping):
    """Stops a trial whose best value so far is worse than the median of the completed trials at the
    same evaluation, once `num_startup` trials are completed."""

    kind: Literal["median"] = "median"
    num_startup: Annotated[
        int, Field(ge=1, le=10**6, description="trials completed before any verdict")
    ] = 5

    def build(self, num_evaluations: int) -> Any:
        """Returns the Optuna pruner; see the base class."""
        import optuna

        # Optuna asks from step n_warmup_steps on, that one included.
        return optuna.pruners.MedianPruner(
            n_startup_trials=self.num_startup, n_warmup_steps=self._first(num_evaluations)
        )


class Hyperband(_EarlyStopping):
    """Hyperband (Li et al. 2018): successive halving in several brackets, each with a later first
    rung, so that slow starters have a place; a trial's number decides its bracket."""

    kind: Literal["hyperband"] = "hyperband"
    reduction_factor: Factor = 2

    def rungs(self, num_evaluations: int) -> list[int]:
        """Returns the evaluations after which a trial of the first bracket may be stopped; later
        brackets use the same rungs without the first ones."""
        return _rungs(self._first(num_evaluations), self.reduction_factor, num_evaluations)

    def build(self, num_evaluations: int) -> Any:
        """Returns the Optuna pruner; see the base class."""
        from service.search.brackets import BracketPruner

        return BracketPruner(
            self._first(num_evaluations), num_evaluations, reduction_factor=self.reduction_factor
        )


EarlyStopping = Annotated[
    NoEarlyStopping | SuccessiveHalving | Median | Hyperband,
    Field(discriminator="kind", description="how weak trials are ended"),
]


def _rungs(first: int, factor: int, num_evaluations: int) -> list[int]:
    # As Optuna's pruner has them: min_resource * reduction_factor**k. One at the last evaluation
    # would stop a trial that has spent its budget.
    rungs = []
    while first < num_evaluations:
        rungs.append(first)
        first *= factor
    return rungs
