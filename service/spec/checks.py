"""What a spec must hold beyond the shape of its parts: the search against `TrialConfig`. Pure.

Every branch of the space is tried at its ends before any compute, so that no sweep finds out after
hours that `tau` was drawn under `cist`.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from search_spaces.samples import samples
from service.spec.document import SweepSpec
from service.spec.trial_errors import explain_trial
from trainers.tasks import table
from trainers.trial.catalogue import DIVERGENCES
from trainers.trial.config import TrialConfig


def check_spec(spec: SweepSpec) -> None:
    """Raises `ValueError` that names place, rule and remedy when the search cannot work."""
    # What is said of the document as a whole comes before what only some of its trials break.
    _check_not_given(spec)
    spec.sampler.check(spec.search, len(spec.objective))
    _check_early_stopping(spec)
    for values in samples(spec.search):
        _check_search_limits(_trial_of(spec, values), values)
    _check_objectives(spec)


def _trial_of(spec: SweepSpec, values: Mapping[str, Any]) -> TrialConfig:
    """Returns the trial of this spec with the hyperparameters `values`. Raises `ValueError` when
    they give no valid one."""
    try:
        return spec.trial_config(values)
    except ValidationError as error:
        raise ValueError(explain_trial(error, spec, values)) from None


def _check_not_given(spec: SweepSpec) -> None:
    given = spec.given()
    for name in spec.search.written:
        if name in given:
            raise ValueError(
                f"search.{name}: a field is either searched or given, but got it in both places "
                f"(given: {given[name]}). Remove one."
            )


def _check_early_stopping(spec: SweepSpec) -> None:
    if len(spec.objective) > 1 and spec.early_stopping.kind != "none":
        raise ValueError(
            "early_stopping: kind none must hold with two objectives, where no trial is weak as "
            f"such, but got {spec.early_stopping.kind}. Use early_stopping: {{kind: none}}."
        )


def _check_objectives(spec: SweepSpec) -> None:
    # After the trials: a budget that is wrong was explained there, with its place.
    task, budget = table.task_named(spec.task), spec.budget()
    for objective in spec.objective:
        try:
            task.check_objective(objective.metric, budget)
        except ValueError as error:
            raise ValueError(f"objective: {error}") from None


def _check_search_limits(config: TrialConfig, values: Mapping[str, Any]) -> None:
    row = DIVERGENCES.get(config.divergence)
    for name, parameter in row.parameters.items() if row else ():
        low, high, value = parameter.search_low, parameter.search_high, getattr(config, name)
        if name not in values or low is None or high is None or low <= value <= high:
            continue
        raise ValueError(
            f"search.{name}: a searched {name} must lie inside [{low}, {high}], "
            f"{parameter.search_because}, but got {value}. Narrow the range, or give one value "
            "under loss."
        )
