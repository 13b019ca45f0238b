"""Sweeps planned for a cluster that only remembers, and handed over."""

from pathlib import Path

import pytest
import yaml
from fakes import MemoryClient, make_document, make_sweep_plan
from records_support import make_store, plan_of, record_sweep

from service.actions.cluster import plan_on_cluster, submit_sweep
from service.cluster import dashboard
from service.cluster import job as jobs
from service.errors import JobError, PlanError, TrackingError
from service.workspace import Cluster, Workspace

PLAN = make_sweep_plan()


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
    with pytest.raises(PlanError, match="a worker of 3 CPUs .*nodes of at most 2 CPUs"):
        plan_on_cluster("sweep.yaml", workspace, overrides=["resources.cpus_per_worker=3"])


def test_a_plan_is_handed_over_with_what_its_driver_needs(
    client: MemoryClient, workspace: Workspace
) -> None:
    job = submit_sweep(PLAN, workspace, max_driver_restarts=4)
    assert job.to_json() == {
        "sweep_id": PLAN.sweep_id,
        "job": PLAN.sweep_id,
        "state": "pending",
        "message": None,
    }
    assert job.is_new
    order = jobs.order_of(client, job)
    assert (order.plan, order.max_driver_restarts) == (PLAN, 4)
    assert client.environment == [{"KD_SWEEP_HOME": "/shared"}]
    assert not submit_sweep(PLAN, workspace).is_new


def test_without_a_cluster_nothing_is_submitted(client: MemoryClient, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="an address must be given"):
        submit_sweep(PLAN, Workspace(tmp_path))
    assert client.infos == []


def test_a_start_that_only_the_cluster_sees_is_left_to_it(
    client: MemoryClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "_nodes", lambda cluster: [{"CPU": 2.0}])
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(make_document()))
    record_sweep(make_store(tmp_path), tmp_path, plan_of(), [])
    there = Workspace(tmp_path, folder=tmp_path, cluster=Cluster("http://head:8265"))
    plan = plan_on_cluster("sweep.yaml", there, warm_start="toy")
    assert plan.warm_start == plan_of().sweep_id
    assert plan.warnings[0].endswith(f"from {plan_of().sweep_id} is seen on the cluster")
    with pytest.raises(TrackingError, match="'toi': must be an id"):
        plan_on_cluster("sweep.yaml", there, warm_start="toi")
