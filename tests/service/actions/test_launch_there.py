"""A service's line in front of a cluster: each sweep is a job once, whatever is away or killed."""

from pathlib import Path
from typing import Any

import pytest
from fakes import MemoryClient, make_sweep_plan

from service.accounts.line import Asked, Priority
from service.actions.launch import LaunchState
from service.actions.launch_there import ClusterLaunches
from service.cluster import dashboard
from service.cluster import job as jobs
from service.cluster.job import JobOrder
from service.errors import JobError
from service.workspace import Cluster, Workspace

PLAN = make_sweep_plan()


@pytest.fixture
def line(tmp_path: Path, client: MemoryClient) -> ClusterLaunches:
    return another(tmp_path)


def another(home: Path) -> ClusterLaunches:
    """What a service has in front of a cluster that runs one sweep at once."""
    cluster = Cluster("http://head:8265", environment={"HF_HUB_OFFLINE": "1"})
    return ClusterLaunches(Workspace(home, cluster=cluster), at_once=1)


def order(name: str) -> JobOrder:
    return JobOrder(plan=PLAN.model_copy(update={"sweep_id": f"tiny-{name}"}))


def states(line: ClusterLaunches) -> dict[str, LaunchState]:
    return {one.sweep_id: one.state for one in line.all()}


def begun(line: ClusterLaunches) -> list[str]:
    line.look_again()
    return [one.sweep_id for one in line.begin_next()]


def test_sweeps_become_jobs_one_after_the_other(
    line: ClusterLaunches, client: MemoryClient
) -> None:
    line.put(order("a"), asked=Asked("anna", "x", Priority.LOW))
    line.put(order("b"), asked=Asked("anna", "x"))
    assert begun(line) == ["tiny-b"] and begun(line) == []
    assert [one.submission_id for one in client.infos] == ["tiny-b"]
    assert client.environment == [{"HF_HUB_OFFLINE": "1"}]
    assert states(line) == {"tiny-a": LaunchState.WAITING, "tiny-b": LaunchState.RUNNING}
    running = line.newest("tiny-b")
    assert running is not None and not line.cancel(running)
    client.infos[0].status = "SUCCEEDED"
    assert begun(line) == ["tiny-a"]
    end = line.all()[1].end
    assert end is not None and (end.exit_code, end.message) == (0, "")


def test_another_service_goes_on_with_what_a_killed_one_began(
    line: ClusterLaunches, client: MemoryClient, tmp_path: Path
) -> None:
    line.put(order("a"))
    begun(line)
    # Killed before it could write down that it had begun:
    (line.all()[0].folder / "begun").unlink()
    after = another(tmp_path)
    assert states(after) == {"tiny-a": LaunchState.WAITING}
    assert begun(after) == ["tiny-a"]
    assert len(client.infos) == 1
    client.infos[0].status, client.infos[0].driver_exit_code = "FAILED", 130
    assert begun(after) == []
    end = after.all()[0].end
    assert end is not None and end.exit_code == 130


def test_the_line_waits_for_a_cluster_that_is_away(
    line: ClusterLaunches, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.put(order("a"))

    def away(cluster: Cluster) -> Any:
        raise JobError("cluster: a Ray dashboard must answer, but got: nothing")

    with monkeypatch.context() as patch:
        patch.setattr(dashboard, "connect", away)
        assert begun(line) == []
    assert begun(line) == ["tiny-a"]
    with monkeypatch.context() as patch:
        patch.setattr(dashboard, "connect", away)
        begun(line)
        assert states(line) == {"tiny-a": LaunchState.RUNNING}


def test_what_the_cluster_refuses_or_forgets_has_ended_and_lets_the_next_begin(
    line: ClusterLaunches, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        line.put(order(name))

    def refuse(client: Any, order: JobOrder, **given: Any) -> Any:
        if order.plan.sweep_id == "tiny-a":
            raise JobError("cluster: the job was refused: too large")
        return submit(client, order, **given)

    submit = jobs.submit
    monkeypatch.setattr(jobs, "submit", refuse)
    assert begun(line) == ["tiny-a"]
    assert begun(line) == ["tiny-b"]
    client.infos.clear()
    begun(line)
    ends = [one.end.message for one in line.all() if one.end is not None]
    assert ends == [
        "cluster: the job was refused: too large",
        "the cluster does not know its job any more",
    ]
