"""Sweeps on a Ray cluster: planned for it, handed over, followed, and single trials stopped."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.actions.plan import plan_sweep
from service.actions.run import RunEvent, SweepBegins
from service.cluster import dashboard
from service.cluster import job as jobs
from service.cluster.job import JobOrder, SweepJob
from service.driver.study_changes import StudyChanges
from service.errors import JobError
from service.events import SweepEnded, TrialEnded, TrialEvaluated, TrialStarted, from_line
from service.plan.plan import SweepPlan
from service.workspace import Workspace

# A driver's log may end a moment before its job does.
END_TIMEOUT_S = 10


@dataclass(frozen=True)
class SweepStatus:
    """A sweep's newest job, and its trials by state, as its driver's log counts them."""

    job: SweepJob
    trials: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Returns the row of `--json`."""
        return self.job.to_json() | {"trials": self.trials}


def plan_on_cluster(
    reference: str,
    workspace: Workspace,
    *,
    overrides: Sequence[str] = (),
    code: Path | None = None,
    warm_start: str | None = None,
) -> SweepPlan:
    """Returns the plan of `reference` for the workspace's cluster; see `plan_sweep`. warm_start: id
    of an earlier sweep on the same storage, whose trials the sampler starts with.

    Raises `JobError` when the cluster does not answer, `PlanError` when it cannot hold the sweep.
    """
    cluster = workspace.require_cluster()
    dashboard.connect(cluster)
    resources = dashboard.cluster_resources(cluster)
    plan = plan_sweep(reference, workspace, overrides=overrides, resources=resources, code=code)
    dashboard.check_workers_fit(plan, cluster)
    return with_warm_start(plan, warm_start) if warm_start else plan


def with_warm_start(plan: SweepPlan, source: str) -> SweepPlan:
    """Returns the plan under an id of its own: what the sampler knows at the start is part of what
    the sweep is."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:4]
    return plan.model_copy(update={"sweep_id": f"{plan.sweep_id}-w{digest}"})


def submit_sweep(
    plan: SweepPlan,
    workspace: Workspace,
    *,
    warm_start: str | None = None,
    max_driver_restarts: int = 1,
    again: bool = False,
    code: Path | None = None,
) -> SweepJob:
    """Hands the plan to the workspace's cluster and returns its job, or the one that it has there
    already (`is_new` false), unless `again` starts another driver.

    warm_start: as it was planned with; max_driver_restarts: how often a driver that died is started
    again; code: folder of the user's modules that is shipped with it. Raises `JobError` when the
    cluster refuses.
    """
    cluster = workspace.require_cluster()
    order = JobOrder(
        plan=plan,
        changes=StudyChanges(warm_start=warm_start),
        max_driver_restarts=max_driver_restarts,
    )
    client = dashboard.connect(cluster)
    return jobs.submit(client, order, again=again, code=code, environment=cluster.environment)


def list_jobs(workspace: Workspace) -> list[SweepJob]:
    """Returns the jobs of all sweeps that the cluster knows, the oldest first."""
    return jobs.all_jobs(dashboard.connect(workspace.require_cluster()))


def sweep_status(sweep: str, workspace: Workspace) -> SweepStatus:
    """Returns how a sweep on the cluster is doing. sweep: id, unique beginning of one or `latest`.
    Raises `JobError` when there is none."""
    client, job = _find(sweep, workspace)
    return SweepStatus(job, count_trials(jobs.logs(client, job, follow=False)))


def read_logs(
    sweep: str, workspace: Workspace, *, follow: bool = False, trial: int | None = None
) -> Iterator[str]:
    """Yields the lines of a driver's log: those about `trial` alone if it is named, and until the
    job ends with `follow`. Raises `JobError` when there is no such sweep."""
    client, job = _find(sweep, workspace)
    for line in jobs.logs(client, job, follow=follow):
        if trial is None or _is_about(line, trial):
            yield line


def watch_sweep(sweep: str, workspace: Workspace) -> Iterator[RunEvent]:
    """Yields the events of a sweep on the cluster, those so far first, until its job ends. Raises
    `JobError` when there is no such sweep, and at the end when its job failed."""
    client, job = _find(sweep, workspace)
    yield SweepBegins(jobs.order_of(client, job).plan)
    for line in jobs.logs(client, job, follow=True):
        event = from_line(line)
        if event is not None:
            yield event
    job = jobs.wait(client, job, timeout_s=END_TIMEOUT_S)
    if job.failed:
        raise JobError(f"sweep {job.sweep_id}: job {job.submission_id} failed: {job.message}")


def stop_trial(sweep: str, workspace: Workspace, *, trial: int) -> None:
    """Cancels one running trial of a sweep on the cluster; the sweep goes on. Raises `JobError`
    when its driver does not run."""
    client, job = _find(sweep, workspace)
    jobs.stop_trial(client, job, trial)


def count_trials(lines: Iterator[str]) -> dict[str, int]:
    """Returns a sweep's trials by state, from the lines of its driver's log."""
    counts: dict[str, int] = {}
    running: set[int] = set()
    for line in lines:
        event = from_line(line)
        if isinstance(event, TrialStarted):
            running.add(event.trial)
        if isinstance(event, TrialEnded):
            running.discard(event.trial)
            counts[event.state] = counts.get(event.state, 0) + 1
        if isinstance(event, SweepEnded):
            return dict(event.summary.counts)
    return counts | ({"running": len(running)} if running else {})


def _find(sweep: str, workspace: Workspace) -> tuple[Any, SweepJob]:
    client = dashboard.connect(workspace.require_cluster())
    return client, jobs.find_job(client, sweep)


def _is_about(line: str, trial: int) -> bool:
    event = from_line(line)
    about = isinstance(event, TrialStarted | TrialEvaluated | TrialEnded) and event.trial == trial
    return about or (event is not None and f"trial {trial} " in json.loads(line).get("text", ""))
