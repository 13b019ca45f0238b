"""What a run of MLflow says about a sweep and about a trial: pure, from the plan and the trial."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from service.plan.plan import SweepPlan
from service.plan.study import LEARNING_RATE
from service.record import tags
from service.record.entries import InputEntry, ModelFacts, RunEntry, reference_to
from service.record.records import RunRecord, as_text
from service.states import Role, TrialState
from service.words import in_short
from trainers.tasks import table
from trainers.trial.sources import ModelSource
from trainers.trial.trial_file import TrialFile

DIGEST_LENGTH = 32
LONGEST_PARAM = 500  # in older stores of MLflow, in characters
LONGEST_TAG = 5000  # of characters, in older stores of MLflow


@dataclass(frozen=True)
class DataSizes:
    """How large a sweep's prepared data is, where that is known by now."""

    num_train_examples: int | None = None
    num_train_tokens: int | None = None
    num_validation_examples: int | None = None


UNKNOWN = DataSizes()


def sweep_entry(plan: SweepPlan, *, at_ms: int) -> RunEntry:
    """Returns the sweep's run as it is when the sweep starts."""
    return RunEntry(
        run=reference_to(plan.sweep_id, ""),
        at_ms=at_ms,
        name=plan.sweep_id,
        tags=_sweep_tags(plan),
        params=_sweep_params(plan),
        texts={"plan.json": plan.model_dump_json(indent=2) + "\n"},
    )


def trial_entry(
    plan: SweepPlan,
    trial: TrialFile,
    hyperparameters: Mapping[str, Any],
    *,
    label: str | None,
    at_ms: int,
    sizes: DataSizes = UNKNOWN,
) -> RunEntry:
    """Returns a trial's run, without its parent, as it is when the trial starts."""
    return RunEntry(
        run=reference_to(plan.sweep_id, trial.trial),
        at_ms=at_ms,
        # Its number first: lists show a name's beginning, below the sweep that they share.
        name=f"{trial.trial} {_in_words(plan, trial, hyperparameters, label)}",
        tags=_trial_tags(plan, trial, hyperparameters, label),
        params=_params(trial),
        inputs=tuple(data_inputs(plan, trial.fingerprints, sizes)),
        texts={"trial.json": trial.model_dump_json(indent=2) + "\n"},
    )


def _in_words(
    plan: SweepPlan, trial: TrialFile, hyperparameters: Mapping[str, Any], label: str | None
) -> str:
    place = place_in_study(plan, hyperparameters)
    if not place:
        return label or in_short(hyperparameters)
    name = f"{place[tags.CELL]} seed={trial.config.seed}"
    return f"tuning: {name}" if place[tags.ROLE] == Role.TUNING else name


def place_in_study(plan: SweepPlan, hyperparameters: Mapping[str, Any]) -> dict[str, str]:
    """Returns the tags that say which cell of a controlled study a trial is of, and what for."""
    study = plan.study
    cell = None if study is None else study.cell_of(hyperparameters)
    if study is None or cell is None:
        return {}
    tuned = {} if study.tune is None else {tags.TUNED: LEARNING_RATE}
    return {tags.CELL: cell.label, tags.ROLE: str(study.role_of(hyperparameters))} | tuned


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
        inputs=tuple(_inputs_again(trial)),
        texts={"trial.json": trial.model_dump_json(indent=2) + "\n"},
    )


def _sweep_tags(plan: SweepPlan) -> dict[str, str]:
    first, *others = plan.spec.objective
    search = json.dumps(plan.spec.search.written)
    found = {tags.SEARCH: search} if len(search) <= LONGEST_TAG else {}
    if plan.study is not None:
        design = {"cells": len(plan.study.cells), "seeds": len(plan.study.seeds)}
        found[tags.STUDY] = json.dumps(design)
    if plan.confirms is not None:
        found[tags.CONFIRMS] = plan.confirms
    for second in others:
        found[tags.SECOND_OBJECTIVE_METRIC] = second.metric
        found[tags.SECOND_OBJECTIVE_DIRECTION] = second.direction
    return found | {
        tags.KIND: tags.KIND_SWEEP,
        tags.SWEEP_ID: plan.sweep_id,
        tags.SWEEP_NAME: plan.spec.name,
        tags.STATE: str(TrialState.RUNNING),
        tags.CODE_VERSION: plan.code_version,
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
        tags.SEARCHED: json.dumps([k for k, v in hyperparameters.items() if v is not None]),
        tags.DEVICE: trial.device,
        tags.SOURCE_NAME: "kd-sweep",
    }
    # The rest of what it ran in is in `trial.json`: for people, these two say where it came from.
    around = {tags.COMMIT: "commit", tags.IMAGE: "image"}
    found |= {
        tag: trial.provenance[name] for tag, name in around.items() if name in trial.provenance
    }
    found |= place_in_study(plan, hyperparameters)
    return found | ({tags.LABEL: label} if label else {})


def _sweep_params(plan: SweepPlan) -> dict[str, str]:
    """What the sweep tries and shares, under a trial's own names or the document's; nothing that an
    extension changes, since MLflow keeps a param as it was first written."""
    spec = plan.spec
    found: dict[str, Any] = {
        "name": spec.name,
        "teacher": _model_name(spec.teacher),
        "student": _model_name(spec.student),
        "data.train": spec.data.train,
        "data.validation": spec.data.validation,
        **_choosing(plan),
        "objective": ", ".join(f"{one.direction} {one.metric}" for one in spec.objective),
    }
    found |= {f"search.{name}": domain for name, domain in spec.search.written.items()}
    found |= spec.given()
    return {name: as_text(value)[:LONGEST_PARAM] for name, value in found.items()}


def _choosing(plan: SweepPlan) -> dict[str, Any]:
    """How a sweep's trials are chosen; of a study not how many, which an extension changes."""
    if plan.study is not None:
        return {"kind": plan.spec.kind}
    return {
        "controls": len(plan.controls),
        "sampler": plan.spec.sampler.kind,
        "early_stopping": plan.spec.early_stopping.kind,
    }


def _params(trial: TrialFile) -> dict[str, str]:
    config = trial.config.model_dump(mode="json", exclude_none=True)
    return {name: as_text(value) for name, value in config.items()}


def data_inputs(
    plan: SweepPlan, fingerprints: Mapping[str, str], sizes: DataSizes
) -> Iterator[InputEntry]:
    """Yields the data sets that the sweep's trials read; none where they have no fingerprint."""
    data, digest = plan.spec.data, fingerprints.get("data")
    if not digest:
        return
    splits = (
        ("training", data.train, (sizes.num_train_examples, sizes.num_train_tokens)),
        ("validation", data.validation, (sizes.num_validation_examples, None)),
    )
    for context, source, (rows, tokens) in splits:
        profile = {"num_rows": rows, "num_learned_tokens": tokens}
        yield InputEntry(
            name=f"{PurePath(source).name} ({context})",
            digest=digest[:DIGEST_LENGTH],
            source=source,
            context=context,
            profile={name: value for name, value in profile.items() if value is not None},
        )


def _inputs_again(trial: TrialFile) -> Iterator[InputEntry]:
    digest = trial.fingerprints.get("data")
    for context in ("training", "validation") if digest else ():
        yield InputEntry(
            name=context,
            digest=str(digest)[:DIGEST_LENGTH],
            source=trial.paths.data,
            context=context,
        )
