"""What a spec must hold beyond the shape of its parts: the search against `TrialConfig`. Pure.

Every branch of the space is tried at its ends before any compute, so that no sweep finds out after
hours that `tau` was drawn under `cist`.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from service.spec.document import MOST_TRIALS, SweepSpec
from service.spec.study_checks import check_kind
from service.spec.trial_errors import explain_trial
from service.words import RESERVED
from trainers.tasks import table
from trainers.trial.catalogue import DIVERGENCES
from trainers.trial.config import TrialConfig
from trainers.trial.fields import TaskName
from trainers.trial.sources import INPUTS_OF

# A dialect that Optuna's store knows, perhaps with its driver, and something behind it.
DATABASE = re.compile(r"(sqlite|postgresql|mysql|mariadb|mssql|oracle)(\+[a-z0-9_]+)?://[^\s]")


def check_spec(spec: SweepSpec) -> None:
    """Raises `ValueError` that names place, rule and remedy when the search cannot work."""
    # What is said of the document as a whole comes before what only some of its trials break.
    _check_name(spec.name)
    _check_study_url(spec.storage.study_url)
    _check_configs(spec)
    _check_inputs(spec)
    _check_storage(spec)
    check_kind(spec)
    _check_not_given(spec)
    _check_trials(spec)
    spec.sampler.check(spec.search, len(spec.objective))
    _check_early_stopping(spec)
    for values in spec.points():
        config = _trial_of(spec, values)
        if not spec.is_study:  # whose values are each meant
            _check_search_limits(config, values)
    _check_objectives(spec)
    _check_teacher_text(spec)


def _trial_of(spec: SweepSpec, values: Mapping[str, Any]) -> TrialConfig:
    """Returns the trial of this spec with the hyperparameters `values`. Raises `ValueError` when
    they give no valid one."""
    try:
        return spec.trial_config(values)
    except ValidationError as error:
        raise ValueError(explain_trial(error, spec, values)) from None


def _check_storage(spec: SweepSpec) -> None:
    k = spec.teacher_cache.top_k
    if k is not None and not table.task_named(spec.task).has_output_matrix:
        raise ValueError(
            f"teacher_cache.top_k: it needs a vocabulary, but got {k} in {spec.task}, whose "
            "teacher's few logits are stored as they are. Leave it out."
        )


def _check_name(name: str) -> None:
    if name in RESERVED:
        raise ValueError(
            f"name: {' and '.join(RESERVED)} mean other sweeps where a command takes one, "
            f"but got '{name}'. Use another name."
        )


def _check_configs(spec: SweepSpec) -> None:
    """A plan is kept as JSON, and so is a model's config."""
    for role in ("teacher", "student"):
        try:
            json.dumps(getattr(spec, role).config, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{role}.config: must hold values that JSON has, but got: {error}. Correct the one."
            ) from None


def _check_inputs(spec: SweepSpec) -> None:
    for name in sorted(spec.data.model_fields_set & INPUTS_OF.keys()):
        if INPUTS_OF[name] != spec.task:
            raise ValueError(
                f"data.{name}: it belongs to task '{INPUTS_OF[name]}', but got it with task "
                f"'{spec.task}'. Leave it out."
            )
    if spec.tokenizer is not None and spec.task != TaskName.CAUSAL_LM:
        raise ValueError(
            f"tokenizer: it belongs to task '{TaskName.CAUSAL_LM}', but got it with task "
            f"'{spec.task}'. Leave it out."
        )


def _check_teacher_text(spec: SweepSpec) -> None:
    asked = spec.teacher_text
    if asked is None:
        return
    room = spec.data.response_room()
    if asked.longest(spec.data) > room:
        raise ValueError(
            "data.teacher_text.max_tokens: it must be at most max_tokens - max_prompt_tokens = "
            f"{room}, or a response does not fit behind every prompt, but got {asked.max_tokens}."
        )
    if asked.samples_per_prompt > 1 and spec.budget().steps is None:
        raise ValueError(
            "data.teacher_text.samples_per_prompt: training.steps must be given with more than 1, "
            "as an epoch of the teacher's text is so many times longer than one of the data's, but "
            f"got {asked.samples_per_prompt} and epochs. Give steps."
        )
    if spec.teacher_cache.gpus > 1:
        raise ValueError(
            "teacher_cache.gpus: it must be 1 where the teacher writes text, each token of which "
            f"would cross all GPUs, but got {spec.teacher_cache.gpus} with responses: teacher. "
            "Use 1, or responses: data."
        )


def _check_study_url(url: str | None) -> None:
    if url is not None and not DATABASE.match(url):
        raise ValueError(
            f"storage.study_url: must be the URL of a database, but got '{url}'. "
            "Write it as postgresql://user@host/optuna or sqlite:////folder/study.db, or leave it "
            "out for a journal file."
        )


def _check_trials(spec: SweepSpec) -> None:
    points = spec.sampler.num_points(spec.search)
    if points is not None and points > MOST_TRIALS and spec.trials is None:
        shown = f"{points:,}" if points < 10**15 else "more than 10^15"
        raise ValueError(
            f"trials: must be given for a grid of more than {MOST_TRIALS:,} points, but got none "
            f"for {shown} points. Set it, or lower sampler.points_per_range."
        )


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
            if objective.metric not in task.metrics:
                raise ValueError(
                    f"must be a metric of task '{spec.task}' ({', '.join(task.metrics)}), "
                    f"but got {objective.metric}. Use one of them."
                )
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
