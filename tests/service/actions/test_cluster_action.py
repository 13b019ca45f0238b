"""Sweeps on a cluster that only remembers: handed over, counted, followed, stopped in part."""

from pathlib import Path

import pytest
import yaml
from fakes import MemoryClient, make_document, make_sweep_plan

from service.actions.cluster import (
    count_trials,
    list_jobs,
    plan_on_cluster,
    read_logs,
    stop_trial,
    submit_sweep,
    sweep_status,
    watch_sweep,
    with_warm_start,
)
from service.actions.run import SweepBegins
from service.cluster import dashboard
from service.cluster import job as jobs
from service.errors import JobError, PlanError
from service.events import (
    DriverEvent,
    Notice,
    SweepEnded,
    SweepSummary,
    TrialEnded,
    TrialStarted,
    to_line,
)
from service.states import TrialState
from service.workspace import Cluster, Workspace

PLAN = make_sweep_plan()
EVENTS: list[DriverEvent] = [
    TrialStarted(0, 0, None, {"tau": 1.0}),
    TrialStarted(1, 0, None, {"tau": 2.0}),
    TrialEnded(0, TrialState.COMPLETED, 3.0),
    Notice("trial 1 waits for a slot"),
]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> MemoryClient:
    made = MemoryClient()
    monkeypatch.setattr(dashboard, "connect", lambda cluster: made)
    return made


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    variables = {"KD_SWEEP_HOME": "/shared"}
    return Workspace(tmp_path, cluster=Cluster("http://head:8265", environment=variables))


def test_a_sweep_is_planned_for_what_the_cluster_has(
    client: MemoryClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "_nodes", lambda cluster: [{"CPU": 2.0}, {"CPU": 1.0}])
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(make_document()))
    workspace = Workspace(tmp_path, folder=tmp_path, cluster=Cluster("http://head:8265"))
    plan = plan_on_cluster("sweep.yaml", workspace)
    assert (plan.slots, plan.cluster.num_cpus) == (3, 3.0)
    started_with = plan_on_cluster("sweep.yaml", workspace, warm_start="dolly-1")
    assert started_with == with_warm_start(plan, "dolly-1")
    with pytest.raises(PlanError, match="a worker of 3 CPUs .*nodes of at most 2 CPUs"):
        plan_on_cluster("sweep.yaml", workspace, overrides=["resources.cpus_per_worker=3"])


def test_a_plan_is_handed_over_with_what_its_driver_needs(
    client: MemoryClient, workspace: Workspace
) -> None:
    job = submit_sweep(PLAN, workspace, warm_start="tiny-0", max_driver_restarts=4)
    assert job.to_json() == {
        "sweep_id": PLAN.sweep_id,
        "job": PLAN.sweep_id,
        "status": "PENDING",
        "is_new": True,
    }
    order = jobs.order_of(client, job)
    assert (order.changes.warm_start, order.max_driver_restarts) == ("tiny-0", 4)
    assert client.environment == [{"KD_SWEEP_HOME": "/shared"}]
    assert not submit_sweep(PLAN, workspace).is_new


def test_without_a_cluster_nothing_is_submitted(client: MemoryClient, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="an address must be given"):
        submit_sweep(PLAN, Workspace(tmp_path))
    assert client.infos == []


def test_a_sweep_with_another_start_is_another_sweep() -> None:
    ids = {with_warm_start(PLAN, source).sweep_id for source in ("dolly-1", "dolly-2")}
    assert len(ids | {PLAN.sweep_id}) == 3


def test_trials_are_counted_from_the_log(client: MemoryClient, workspace: Workspace) -> None:
    submit_sweep(PLAN, workspace)
    client.log = ["a line of Ray's", *map(to_line, EVENTS)]
    found = sweep_status("latest", workspace)
    assert found.to_json()["trials"] == {"completed": 1, "running": 1}
    assert list_jobs(workspace) == [found.job]


def test_the_last_event_counts_for_all_of_them() -> None:
    summary = SweepSummary("tiny", "run", "completed", {"completed": 7}, 0, 1.0, 1.0)
    assert count_trials(map(to_line, [*EVENTS, SweepEnded(summary)])) == {"completed": 7}


def test_lines_of_one_trial_are_told_from_the_others(
    client: MemoryClient, workspace: Workspace
) -> None:
    submit_sweep(PLAN, workspace)
    client.log = list(map(to_line, EVENTS))
    assert list(read_logs("latest", workspace)) == client.log
    assert list(read_logs("latest", workspace, trial=1)) == [client.log[1], client.log[3]]


def test_watching_begins_with_the_plan_and_ends_with_why_the_job_failed(
    client: MemoryClient, workspace: Workspace
) -> None:
    submit_sweep(PLAN, workspace)
    client.log = list(map(to_line, EVENTS))
    client.infos[0].status, client.infos[0].message = "FAILED", "the head was lost"
    events = watch_sweep("latest", workspace)
    assert next(events) == SweepBegins(PLAN)
    assert [next(events) for _ in EVENTS] == EVENTS
    with pytest.raises(JobError, match=f"job {PLAN.sweep_id} failed: the head was lost"):
        next(events)


def test_one_trial_is_stopped_through_its_driver(
    client: MemoryClient, workspace: Workspace
) -> None:
    submit_sweep(PLAN, workspace)
    stop_trial("latest", workspace, trial=7)
    control = f"python -m service control {PLAN.sweep_id} stop-trial 7"
    assert client.infos[-1].entrypoint == control
