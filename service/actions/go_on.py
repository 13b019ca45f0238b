"""Sweeps that were started before go on: resumed, extended, or with trials to repeat. Their plans
are read back from the record. On the workspace's cluster when it has one, else here."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.actions.record import open_record
from service.actions.run import drive_sweep
from service.actions.run_result import OnEvent, RunResult, ignore
from service.actions.status import SweepStatus
from service.client.asking import route, tell
from service.cluster import dashboard
from service.cluster import job as jobs
from service.cluster.job import JobOrder
from service.cluster.sweep_job import SweepJob
from service.driver.lock import plans_here
from service.driver.study_changes import StudyChanges
from service.errors import JobError, PlanError, SpecError, TrackingError
from service.plan.plan import SweepPlan
from service.plan.study import with_more as with_more_of
from service.plan.trials import points_left
from service.record.plans import read_plan
from service.spec.parse import parse_spec
from service.spec.yaml_text import read_yaml
from service.which import sweeps_meant
from service.workspace import Server, Workspace

# What a study's document must not have, and what its cells stand in for.
NOT_OF_STUDIES = {"search", "sampler", "early_stopping"}


@dataclass(frozen=True)
class MoreOfStudy:
    """What a study gets in addition: so many seeds, and cells, each a small grid as in its document
    (a trial's field → a value, or a list of them)."""

    seeds: int = 0
    cells: Sequence[Mapping[str, Any]] = ()


def read_more(seeds: int, cells: str | None) -> MoreOfStudy:
    """Returns what a study gets in addition; cells: as its document has them, in YAML. Raises
    `SpecError` for text that is none."""
    written = [] if cells is None else read_yaml(cells, "--cells")
    listed = [written] if isinstance(written, Mapping) else written
    if not isinstance(listed, list):
        raise SpecError(
            f"--cells: must be a list of mappings, or one, but got {cells!r:.80}. Write "
            "--cells '{tau: [16, 32]}'."
        )
    return MoreOfStudy(seeds, tuple(listed))


def resume_sweep(
    sweep: str,
    workspace: Workspace | Server,
    *,
    on_event: OnEvent = ignore,
    stop: threading.Event | None = None,
) -> RunResult | SweepJob:
    """Goes on with a sweep that was stopped, or whose driver or cluster died: to its end on this
    machine, or as another job of the cluster, or of a service.

    sweep: id, unique beginning of one, name or `latest`; on_event, stop: see `run_sweep`, for this
    machine. Raises `TrackingError` for an unknown sweep, and what running or submitting one raises.
    """
    if isinstance(workspace, Server):
        return _go_on_there(sweep, workspace, "resume")
    return _go_on(order_to_resume(sweep, workspace), workspace, on_event=on_event, stop=stop)


def extend_sweep(
    sweep: str,
    workspace: Workspace | Server,
    *,
    trials: int | None = None,
    study: MoreOfStudy | None = None,
    on_event: OnEvent = ignore,
    stop: threading.Event | None = None,
) -> RunResult | SweepJob:
    """Gives a search so many more trials, or a study more seeds or cells, also a finished one, and
    goes on with it as `resume_sweep` does. Raises `PlanError` when its grid has no more points, or
    for what a sweep of its kind does not have."""
    if isinstance(workspace, Server):
        of_study = (
            {"seeds": study.seeds, "cells": [dict(one) for one in study.cells]} if study else {}
        )
        return _go_on_there(sweep, workspace, "extend", {"trials": trials, **of_study})
    order = order_to_extend(sweep, workspace, trials=trials, study=study)
    return _go_on(order, workspace, on_event=on_event, stop=stop)


def retry_trials(
    sweep: str,
    workspace: Workspace | Server,
    *,
    trials: Sequence[int] = (),
    on_event: OnEvent = ignore,
    stop: threading.Event | None = None,
) -> RunResult | SweepJob:
    """Repeats trials that failed, diverged or were cancelled, all failed ones where none are named,
    and goes on with the sweep as `resume_sweep` does. Raises `PlanError`, and changes nothing, when
    there is none or one cannot be repeated."""
    if isinstance(workspace, Server):
        return _go_on_there(sweep, workspace, "retry", {"trials": list(trials)})
    order = order_to_retry(sweep, workspace, trials=trials)
    return _go_on(order, workspace, on_event=on_event, stop=stop)


def _go_on_there(sweep: str, server: Server, how: str, more: Any = None) -> SweepJob:
    return tell(server, route("sweeps", sweep, how), SweepStatus, more).as_job()


def order_to_resume(sweep: str, workspace: Workspace) -> JobOrder:
    """Returns what a driver has to do that goes on with the sweep. Raises `TrackingError` for an
    unknown one."""
    return _order(_plan_of(sweep, workspace), StudyChanges())


def order_to_extend(
    sweep: str,
    workspace: Workspace,
    *,
    trials: int | None = None,
    study: MoreOfStudy | None = None,
) -> JobOrder:
    """Returns what a driver has to do that gives the sweep more; raises as `extend_sweep`."""
    plan = with_more(_plan_of(sweep, workspace), trials=trials, study=study)
    return _order(plan, StudyChanges())


def order_to_retry(sweep: str, workspace: Workspace, *, trials: Sequence[int] = ()) -> JobOrder:
    """Returns what a driver has to do that repeats trials; raises as `retry_trials`."""
    changes = StudyChanges(retry=tuple(trials), retry_failed=not trials)
    plan = _plan_of(sweep, workspace)
    _check_repeats(changes, plan, workspace)
    return _order(plan, changes)


def _order(plan: SweepPlan, changes: StudyChanges) -> JobOrder:
    return JobOrder(plan=plan, changes=changes, max_driver_restarts=1)


def _plan_of(sweep: str, workspace: Workspace) -> SweepPlan:
    """Returns the plan of a recorded sweep, else of one whose driver ended before it was recorded.
    Raises `TrackingError` when there is neither."""
    try:
        return read_plan(open_record(workspace), sweep)
    except TrackingError:
        plans = plans_here(workspace.home, driven=False)
        meant = sweeps_meant(sweep, [(plan.sweep_id, plan.spec.name) for plan in plans])
        found = [plan for plan in plans if meant == [plan.sweep_id]]
        if not found:
            raise
        return found[0]


def _check_repeats(changes: StudyChanges, plan: SweepPlan, workspace: Workspace) -> None:
    # They load Optuna.
    from service.driver.open_study import check_repeats, trials_of

    try:
        records = trials_of(plan, workspace.home)
    except (JobError, PlanError):
        if workspace.cluster is None:
            raise
        return  # where only its nodes see it; their driver repeats what it can
    check_repeats(changes, plan.sweep_id, records)


def _go_on(
    order: JobOrder,
    workspace: Workspace,
    *,
    on_event: OnEvent,
    stop: threading.Event | None,
) -> RunResult | SweepJob:
    if workspace.cluster is None:
        plan, changes = order.plan, order.changes
        return drive_sweep(plan, workspace, changes=changes, on_event=on_event, stop=stop)
    return submit_order(order, workspace)


def submit_order(order: JobOrder, workspace: Workspace) -> SweepJob:
    """Hands to the workspace's cluster what goes on with a sweep, and returns its job. Raises
    `JobError` when the cluster refuses, or a driver still runs."""
    cluster = workspace.require_cluster()
    client = dashboard.connect(cluster)
    return jobs.submit(client, order, again=True, environment=cluster.environment)


def with_more(
    plan: SweepPlan, *, trials: int | None = None, study: MoreOfStudy | None = None
) -> SweepPlan:
    """Returns the plan with more trials, or with more seeds and cells of a study, under the same
    id. Raises `PlanError` where that is not possible."""
    if plan.study is None:
        if trials is None or study is not None:
            raise PlanError(
                f"extend: {plan.sweep_id} is a search, which takes --trials alone, but got "
                f"{_given(trials, study)}. For example: --trials 20."
            )
        return with_more_trials(plan, trials)
    if trials is not None or study is None:
        raise PlanError(
            f"extend: {plan.sweep_id} is a study, which takes --seeds and --cells, but got "
            f"{_given(trials, study)}. For example: --seeds 3."
        )
    return _with_more_cells(plan, study)


def _given(trials: int | None, study: MoreOfStudy | None) -> str:
    if trials is None:
        return "none" if study is None else "--seeds or --cells"
    return "--trials" if study is None else "--trials beside them"


def _with_more_cells(plan: SweepPlan, wanted: MoreOfStudy) -> SweepPlan:
    assert plan.study is not None
    points: list[dict[str, Any]] = []
    if wanted.cells:
        # Its document with these cells in the place of its own, held to the same rules.
        written = plan.spec.model_dump(mode="json", exclude=NOT_OF_STUDIES, exclude_defaults=True)
        points = [dict(one) for one in parse_spec(written | {"cells": list(wanted.cells)}).points()]
    study, told = with_more_of(plan.study, plan.spec, seeds=wanted.seeds, points=points)
    if study.num_trials == plan.num_trials:
        raise PlanError(
            f"extend: {plan.sweep_id} must get a cell that it has not, but got "
            f"{len(points)} that it has. kd-sweep trials {plan.sweep_id} lists them."
        )
    more = {"study": study, "num_trials": study.num_trials, "warnings": (*plan.warnings, *told)}
    return plan.model_copy(update=more)


def with_more_trials(plan: SweepPlan, trials: int) -> SweepPlan:
    """Returns the plan with so many more trials, under the same id."""
    points = points_left(plan.spec)
    total = plan.num_trials + trials
    if points is not None and total - len(plan.controls) > points:
        raise PlanError(
            f"extend: the {plan.spec.sampler.kind} sampler has {points} points besides the "
            f"controls, but got {total - len(plan.controls)} trials wanted. Widen the space in a "
            "new sweep."
        )
    return plan.model_copy(update={"num_trials": total})
