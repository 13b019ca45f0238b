"""The best configs of a search trained again, with its best control, on seeds that it never saw: a
controlled study of its own, linked to the search."""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from service.actions.cluster import submit_sweep
from service.actions.plan import input_facts
from service.actions.record import open_record
from service.actions.run import run_sweep
from service.actions.run_result import OnEvent, RunResult, ignore
from service.client.asking import route, tell
from service.cluster import dashboard
from service.cluster.sweep_job import SweepJob
from service.errors import PlanError
from service.plan.places import storage_folder
from service.plan.plan import SweepPlan, make_plan
from service.plan.resources import local_resources
from service.plan.study import Cell, StudyPlan, free_seeds
from service.provenance import code_version
from service.record.plans import read_plan
from service.record.records import RunRecord
from service.results.best import evidence_of
from service.results.confirmation import contenders, values_of
from service.results.standings import Standing
from service.spec.document import STUDY, SweepSpec
from service.spec.parse import parse_spec
from service.spec.study import MOST_SEEDS, SEED, why_held
from service.workspace import Server, Workspace

LONGEST_NAME = 56
# Of a search's document, what a study has not, or has its own of.
OF_SEARCHES = {"kind", "name", "search", "sampler", "early_stopping", "trials", "time_budget_s"}


def confirm_sweep(
    sweep: str,
    workspace: Workspace | Server,
    *,
    top: int = 3,
    seeds: int = 5,
    on_event: OnEvent = ignore,
    stop: threading.Event | None = None,
) -> RunResult | SweepJob:
    """Trains the `top` best configs of a search and its best control on `seeds` fresh seeds each:
    to the end on this machine, or as a job of the workspace's cluster, or of a service.

    sweep: id, unique beginning of one, name or `latest`; on_event, stop: see `run_sweep`. Raises
    as `plan_confirmation`, and as running or submitting a sweep does.
    """
    if isinstance(workspace, Server):
        wanted = {"top": top, "seeds": seeds}
        return tell(workspace, route("sweeps", sweep, "confirm"), SweepJob, wanted)
    plan = plan_confirmation(sweep, workspace, top=top, seeds=seeds)
    if workspace.cluster is not None:
        return submit_sweep(plan, workspace)
    return run_sweep(plan, workspace, on_event=on_event, stop=stop)


def plan_confirmation(sweep: str, workspace: Workspace, *, top: int, seeds: int) -> SweepPlan:
    """Returns the plan of the study that confirms a search.

    Raises `TrackingError` for an unknown sweep, `PlanError` for one that cannot be confirmed: a
    study, one without enough finished configs, with two objectives, whose configs differ in what
    compared ones must share, or whose teacher, student or data have changed since.
    """
    if not 2 <= seeds <= MOST_SEEDS or top < 1:
        raise PlanError(
            f"confirm: --seeds must be 2 to {MOST_SEEDS:,}, since one seed has no interval, and "
            f"--top 1 or more, but got {seeds} and {top}. Three seeds show a large difference, "
            "eight a small one."
        )
    runs = open_record(workspace)
    plan = read_plan(runs, sweep)
    _check_can_be_confirmed(plan)
    records = runs.trials(plan.sweep_id)
    evidence = evidence_of(runs.resolve_sweep(plan.sweep_id), records)
    winners, control = contenders(evidence, top)
    _check_enough(plan, winners, control, top)
    cells = [*_control_cells(plan, control), *map(_cell_of, winners)]
    fresh = free_seeds({one.seed for one in records}, seeds)
    spec = _study_of(plan.spec, cells, fresh)
    return _planned(plan, spec, cells, workspace)


def _check_can_be_confirmed(plan: SweepPlan) -> None:
    sweep = plan.sweep_id
    if plan.study is not None:
        raise PlanError(
            f"confirm: must be given a search, but {sweep} is a study, whose cells have seeds "
            f"already. Give it more: kd-sweep extend {sweep} --seeds 5."
        )
    if len(plan.spec.objective) > 1:
        raise PlanError(
            f"confirm: a search's best configs are those of one objective, but {sweep} has "
            f"{len(plan.spec.objective)}. Write a study (kind: study) of configs of its front."
        )
    for name, domain in plan.spec.search.domains.items():
        reason = why_held(name) if name != SEED else None
        if reason is not None:
            raise PlanError(
                f"confirm: {reason}, but {sweep} searched {name} ({domain.text()}). Write a study "
                f"(kind: study) of its best configs at one {name}."
            )


def _check_enough(
    plan: SweepPlan, winners: Sequence[Standing], control: Standing | None, top: int
) -> None:
    if not winners:
        raise PlanError(
            f"confirm: {plan.sweep_id} must have a searched trial that completed with a finite "
            f"{plan.spec.objective[0].metric}, but it has none. kd-sweep trials {plan.sweep_id} "
            "shows how each ended."
        )
    if len(winners) < top:
        raise PlanError(
            f"confirm: --top must be at most the number of configs that completed in "
            f"{plan.sweep_id}, {len(winners)}, but got {top}. Use --top {len(winners)}."
        )
    if control is None and len(winners) < 2:
        raise PlanError(
            f"confirm: {plan.sweep_id} has no control that completed, so that one config is "
            "compared with nothing. Use --top 2 or more."
        )


def _control_cells(plan: SweepPlan, control: Standing | None) -> list[Cell]:
    """Returns the cell of a control, with the values that its plan gave it: they say, too, what a
    section gives and it does not have."""
    if control is None:
        return []
    label = next(one.label for one in control.trials if one.label is not None)
    planned = {one.label: one.values for one in plan.controls}
    values = planned.get(label) or control.typical.hyperparameters
    return [Cell(label=label, values=_unseeded(values), control=label)]


def _cell_of(winner: Standing) -> Cell:
    record: RunRecord = winner.typical
    return Cell(label=winner.name, values=dict(values_of(record)))


def _unseeded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != SEED}


def _study_of(spec: SweepSpec, cells: Sequence[Cell], seeds: Sequence[int]) -> SweepSpec:
    """Returns the document of the study: the search's own teacher, student, data, budget and
    evaluation. Raises `SpecError` where its cells are no valid ones."""
    # Without defaults, as it was written: some fields are refused where they are of another task.
    document = spec.model_dump(mode="json", exclude=OF_SEARCHES, exclude_defaults=True)
    document.get("training", {}).pop(SEED, None)
    return parse_spec(
        document
        | {
            "kind": STUDY,
            "name": f"{spec.name[:LONGEST_NAME]}-confirm",
            "cells": [cell.values for cell in cells],
            "seeds": list(seeds),
            "controls": "none",
        }
    )


def _planned(
    search: SweepPlan, spec: SweepSpec, cells: Sequence[Cell], workspace: Workspace
) -> SweepPlan:
    facts = input_facts(spec, workspace.home)
    before = search.facts.fingerprints
    changed = [name for name, text in facts.fingerprints.items() if before.get(name, text) != text]
    if changed:
        names = ", ".join("data" if name == "text" else name for name in sorted(changed))
        raise PlanError(
            f"confirm: the inputs must be those that {search.sweep_id} was searched with, but "
            f"changed since: {names}. Bring them back, or search again."
        )
    own = {name: before[name] for name in before.keys() - facts.fingerprints.keys()}
    cluster = workspace.cluster
    resources = (
        local_resources(storage_folder(spec, workspace.home))
        if cluster is None
        else dashboard.cluster_resources(cluster)
    )
    made = make_plan(
        spec,
        facts.model_copy(update={"fingerprints": facts.fingerprints | own}),
        resources,
        code_version=code_version(),
        own_modules=search.own_modules,
    )
    return _linked(made, search, cells)


def _linked(made: SweepPlan, search: SweepPlan, cells: Sequence[Cell]) -> SweepPlan:
    """Returns the plan under an id of its own: two searches may come to the same configs. Its cells
    have the names that they had in the search."""
    assert made.study is not None
    study: StudyPlan = made.study.model_copy(update={"cells": tuple(cells)})
    digest = hashlib.sha256(search.sweep_id.encode()).hexdigest()[:4]
    warnings = made.warnings
    if made.code_version != search.code_version:
        told = f"the code has changed since {search.sweep_id} was searched with it"
        warnings = (told, *warnings)
    return made.model_copy(
        update={
            "sweep_id": f"{made.sweep_id}-c{digest}",
            "study": study,
            "confirms": search.sweep_id,
            "warnings": warnings,
        }
    )
