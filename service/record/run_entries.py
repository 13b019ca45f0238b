"""What a run of MLflow says about a sweep and about a trial: pure, from the plan and the trial."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from service.plan.plan import SweepPlan
from service.record import tags
from service.record.entries import InputEntry, ModelFacts, RunEntry, reference_to
from service.record.records import RunRecord, as_text
from service.states import TrialState
from service.words import describe
from trainers.tasks import table
from trainers.trial.sources import ModelSource
from trainers.trial.trial_file import TrialFile

DIGEST_LENGTH = 32
LONGEST_TAG = 5000  # of characters, in older stores of MLflow


def sweep_entry(plan: SweepPlan, *, at_ms: int) -> RunEntry:
    """Returns the sweep's run as it is when the sweep starts."""
    return RunEntry(
        run=reference_to(plan.sweep_id, ""),
        at_ms=at_ms,
        name=plan.sweep_id,
        tags=_sweep_tags(plan),
        texts={"plan.json": plan.model_dump_json(indent=2) + "\n"},
    )


def trial_entry(
    plan: SweepPlan,
    trial: TrialFile,
    hyperparameters: Mapping[str, Any],
    *,
    label: str | None,
    at_ms: int,
) -> RunEntry:
    """Returns a trial's run, without its parent, as it is when the trial starts."""
    return RunEntry(
        run=reference_to(plan.sweep_id, trial.trial),
        at_ms=at_ms,
        # What differs comes first: lists show a name's beginning, below the sweep that they share.
        name=f"{trial.trial} {label or describe(hyperparameters)} ({plan.sweep_id})",
        tags=_trial_tags(plan, trial, hyperparameters, label),
        params=_params(trial),
        inputs=tuple(_inputs(trial)),
        texts={"trial.json": trial.model_dump_json(indent=2) + "\n"},
    )


def model_facts(plan: SweepPlan) -> ModelFacts | None:
    """Returns what is known of the sweep's students; None where they are none of transformers."""
    task, request = table.task_named(plan.spec.task), plan.spec.prepare_request()
    if task.pipeline is None:
        return None
    data = request.data
    return ModelFacts(
        pipeline=task.pipeline,
        prompt_template=task.prompt_template(request),
        made_from={
            "teacher": _model_name(request.teacher),
            "student": _model_name(request.student),
            "training data": data.train,
            "validation data": data.validation,
        },
    )


def _model_name(source: ModelSource) -> str:
    config = source.config or {}
    name = source.model or f"a {config.get('model_type')} from a config"
    return name + (", fitted on the data first" if source.fit else "")


def rerun_entry(record: RunRecord, trial: TrialFile, *, at_ms: int) -> RunEntry:
    """Returns the run of a rerun of `record`, below it, as it is when it starts."""
    return RunEntry(
        run=reference_to(f"rerun-of-{record.run_id}", at_ms),
        at_ms=at_ms,
        name=f"rerun of {record.sweep_id}/{record.trial}",
        tags={
            tags.KIND: tags.KIND_RERUN,
            tags.RERUN_OF: record.run_id,
            tags.SWEEP_ID: record.sweep_id,
            tags.SWEEP_NAME: record.sweep_name,
            tags.TRIAL: str(record.trial),
            tags.STATE: str(TrialState.RUNNING),
            tags.PARENT_RUN: record.run_id,
            tags.SOURCE_NAME: "kd-sweep",
        },
        params=_params(trial),
        inputs=tuple(_inputs(trial)),
        texts={"trial.json": trial.model_dump_json(indent=2) + "\n"},
    )


def _sweep_tags(plan: SweepPlan) -> dict[str, str]:
    first, *others = plan.spec.objective
    search = json.dumps(plan.spec.search.written)
    found = {tags.SEARCH: search} if len(search) <= LONGEST_TAG else {}
    for second in others:
        found[tags.SECOND_OBJECTIVE_METRIC] = second.metric
        found[tags.SECOND_OBJECTIVE_DIRECTION] = second.direction
    return found | {
        tags.KIND: tags.KIND_SWEEP,
        tags.SWEEP_ID: plan.sweep_id,
        tags.SWEEP_NAME: plan.spec.name,
        tags.STATE: str(TrialState.RUNNING),
        tags.CODE_VERSION: plan.code_version,
        tags.SPEC_SHA: _spec_sha(plan),
        tags.NUM_TRIALS: str(plan.num_trials),
        tags.OBJECTIVE_METRIC: first.metric,
        tags.OBJECTIVE_DIRECTION: first.direction,
        tags.SOURCE_NAME: "kd-sweep",
        tags.NOTE: f"`kd-sweep best --sweep {plan.sweep_id}` shows the best configs of this sweep.",
    }


def _trial_tags(
    plan: SweepPlan, trial: TrialFile, hyperparameters: Mapping[str, Any], label: str | None
) -> dict[str, str]:
    found = {
        tags.KIND: tags.KIND_TRIAL,
        tags.SWEEP_ID: plan.sweep_id,
        tags.SWEEP_NAME: plan.spec.name,
        tags.TRIAL: str(trial.trial),
        tags.ATTEMPT: str(trial.attempt),
        tags.STATE: str(TrialState.RUNNING),
        tags.SEED: str(trial.config.seed),
        tags.CODE_VERSION: plan.code_version,
        tags.SPEC_SHA: _spec_sha(plan),
        tags.SEARCHED: json.dumps([k for k, v in hyperparameters.items() if v is not None]),
        tags.DEVICE: trial.device,
        tags.WORLD_SIZE: str(trial.world_size),
        tags.TEACHER_SOURCE: trial.teacher_source,
        tags.VERSIONS: json.dumps(trial.versions),
        tags.NUMERICS: json.dumps(trial.numerics),
        tags.SOURCE_NAME: "kd-sweep",
    }
    found |= {tags.FINGERPRINT + name: value for name, value in trial.fingerprints.items()}
    return found | ({tags.LABEL: label} if label else {})


def _params(trial: TrialFile) -> dict[str, str]:
    config = trial.config.model_dump(mode="json", exclude_none=True)
    return {name: as_text(value) for name, value in config.items()}


def _inputs(trial: TrialFile) -> Iterator[InputEntry]:
    digest = trial.fingerprints.get("data")
    if digest:
        for context in ("training", "validation"):
            yield InputEntry(
                name=context,
                digest=digest[:DIGEST_LENGTH],
                source=trial.paths.data,
                context=context,
            )


def _spec_sha(plan: SweepPlan) -> str:
    return hashlib.sha256(plan.spec.model_dump_json().encode()).hexdigest()[:16]
