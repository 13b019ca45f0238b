"""Sweeps for a Ray cluster: planned for it, and handed over."""

from collections.abc import Sequence
from pathlib import Path

from service.actions.plan import plan_sweep
from service.client.asking import route, tell
from service.cluster import dashboard
from service.cluster import job as jobs
from service.cluster.job import JobOrder
from service.cluster.sweep_job import SweepJob
from service.errors import SpecError
from service.plan.plan import SweepPlan
from service.workspace import Server, Workspace


def plan_on_cluster(
    reference: str,
    workspace: Workspace | Server,
    *,
    overrides: Sequence[str] = (),
    code: Path | None = None,
    warm_start: str | None = None,
) -> SweepPlan:
    """Returns the plan of `reference` for the workspace's cluster, or for that of a service; see
    `plan_sweep`.

    Raises `JobError` when the cluster does not answer, `PlanError` when it cannot hold the sweep.
    """
    if isinstance(workspace, Server):
        return plan_sweep(
            reference, workspace, overrides=overrides, code=code, warm_start=warm_start
        )
    cluster = workspace.require_cluster()
    dashboard.check_takes_jobs(dashboard.connect(cluster))
    resources = dashboard.cluster_resources(cluster)
    plan = plan_sweep(
        reference,
        workspace,
        overrides=overrides,
        resources=resources,
        code=code,
        warm_start=warm_start,
    )
    dashboard.check_workers_fit(plan, cluster)
    return plan


def check_priority(priority: str | None, workspace: Workspace | Server) -> None:
    """Raises `SpecError` for a priority where there is no line of sweeps that wait."""
    if priority is not None and not isinstance(workspace, Server):
        raise SpecError(
            "--priority: is one in a service's line, but got it for a cluster, which has none. "
            "Leave it out, or name the service (--server)."
        )


def submit_sweep(
    plan: SweepPlan,
    workspace: Workspace | Server,
    *,
    max_driver_restarts: int = 1,
    again: bool = False,
    code: Path | None = None,
    priority: str | None = None,
) -> SweepJob:
    """Hands the plan to the workspace's cluster and returns its job, or the one that it has there
    already (`is_new` false), unless `again` starts another driver. A service gets what was planned
    as a sweep of its user's, once.

    max_driver_restarts: how often a driver that died is started again; code: folder of the user's
    modules that is shipped with it; a service decides both itself. priority: low, normal or high,
    in a service's line. Raises `JobError` when the cluster, or the service, refuses.
    """
    if isinstance(workspace, Server):
        document = plan.spec.model_dump(mode="json", exclude_unset=True)
        wanted = {"spec": document, "warm_start": plan.warm_start, "again": again}
        wanted |= {"priority": priority} if priority is not None else {}
        return tell(workspace, route("sweeps"), SweepJob, wanted)
    check_priority(priority, workspace)
    cluster = workspace.require_cluster()
    order = JobOrder(plan=plan, max_driver_restarts=max_driver_restarts)
    client = dashboard.connect(cluster)
    return jobs.submit(client, order, again=again, code=code, environment=cluster.environment)
