"""A cluster's dashboard: who it talks to, and what its nodes have."""

from types import SimpleNamespace
from typing import Any

import pytest
from fakes import make_sweep_plan

from service.cluster import dashboard
from service.errors import JobError, PlanError
from service.workspace import Cluster


def test_an_address_that_is_no_url_is_refused() -> None:
    message = "must start with http:// or https://, but got 'head:8265'"
    with pytest.raises(JobError, match=message):
        dashboard.connect(Cluster("head:8265"))


def test_a_token_travels_with_each_question(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not at the top: Ray reads its settings when it is loaded, and other tests' sessions make them.
    import ray

    asked: list[dict[str, str]] = []

    class Client:
        def __init__(self, address: str, headers: dict[str, str]) -> None:
            asked.append(headers)

        def _do_request(self, method: str, path: str) -> Any:
            return SimpleNamespace(json=lambda: {"ray_version": ray.__version__})

        def list(self, resource: Any, **options: Any) -> list[Any]:
            return [SimpleNamespace(state="ALIVE", resources_total={"CPU": 3.0})]

    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", Client)
    monkeypatch.setattr("ray.util.state.StateApiClient", Client)
    cluster = Cluster("http://head:8265", token="secret")
    dashboard.connect(cluster)
    assert dashboard.cluster_resources(cluster).num_cpus == 3
    dashboard.connect(Cluster("http://head:8265"))
    with_token = {"Authorization": "Bearer secret"}
    assert asked == [with_token, with_token, {}]


def test_a_cluster_that_does_not_answer_is_named() -> None:
    with pytest.raises(JobError, match=r"must answer at http://127\.0\.0\.1:9.*ray start --head"):
        dashboard.connect(Cluster("http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Request failed with status code 401", "RAY_AUTH_MODE=token"),
        ("Authentication failed: invalid token", "RAY_AUTH_MODE=token"),
        ("Version check returned 404", "must be a Ray dashboard, but got: Version check"),
    ],
)
def test_what_the_cluster_refuses_is_explained(text: str, message: str) -> None:
    assert message in dashboard._refused("http://head:8265", text)


def test_another_ray_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class OldClient:
        def __init__(self, address: str, headers: dict[str, str]) -> None:
            self.address = address

        def _do_request(self, method: str, path: str) -> Any:
            return SimpleNamespace(json=lambda: {"ray_version": "2.10.0"})

    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", OldClient)
    with pytest.raises(JobError, match="same version here and there.*2.10.0 at http://head"):
        dashboard.connect(Cluster("http://head:8265"))


def test_a_worker_must_fit_on_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"CPU": 2.0}, {"CPU": 4.0}]
    monkeypatch.setattr(dashboard, "_nodes", lambda cluster: nodes)
    cluster = Cluster("http://head")
    assert dashboard.cluster_resources(cluster).num_cpus == 6
    fitting = make_sweep_plan(cpus=6, resources={"cpus_per_worker": 3})
    dashboard.check_workers_fit(fitting, cluster)
    large = make_sweep_plan(cpus=6, resources={"cpus_per_worker": 5})
    with pytest.raises(PlanError, match="a worker of 5 CPUs and 0 GPUs.*at most 4 CPUs"):
        dashboard.check_workers_fit(large, cluster)


class Head:
    """A dashboard that tells of a worker's node, and of its head in the words of `raylet`."""

    def __init__(self, **raylet: Any) -> None:
        worker = {"raylet": {"isHeadNode": False, "dashboardAgentListenPort": -1}}
        head = {"raylet": {"isHeadNode": True, "nodeManagerHostname": "lab"} | raylet}
        self.answer: Any = {"data": {"summary": [worker, head]}}

    def _do_request(self, method: str, path: str) -> Any:
        return SimpleNamespace(json=lambda: self.answer)


def test_a_head_whose_agent_has_no_port_is_found_out_before_a_job_waits_for_it() -> None:
    message = "head lab must have a port .* 52365, .*--dashboard-agent-listen-port PORT"
    with pytest.raises(JobError, match=message):
        dashboard.check_takes_jobs(Head(dashboardAgentListenPort=-1))


@pytest.mark.parametrize("raylet", [{"dashboardAgentListenPort": 52365}, {}])
def test_a_head_that_takes_jobs_or_only_starts_is_used(raylet: dict[str, Any]) -> None:
    dashboard.check_takes_jobs(Head(**raylet))


@pytest.mark.parametrize(
    "answer", [{}, [], {"data": {"summary": None}}, {"data": {"summary": [1]}}]
)
def test_a_dashboard_that_tells_it_in_another_way_is_used(answer: Any) -> None:
    head = Head()
    head.answer = answer
    dashboard.check_takes_jobs(head)
