"""Sweeps as jobs, against a cluster that only remembers; and what is shipped to it."""

import asyncio
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.job_submission
import ray.util.state
from fakes import MemoryClient, make_sweep_plan

from service.cluster import job as jobs
from service.cluster import shipping
from service.cluster.job import JobOrder, SweepJob
from service.cluster.shipping import copy_code, ship
from service.driver.study_changes import StudyChanges
from service.errors import JobError, PlanError
from service.workspace import Cluster


def make_order(**changes: Any) -> JobOrder:
    return JobOrder(plan=make_sweep_plan(**changes))


def test_the_code_and_the_order_travel() -> None:
    client = MemoryClient()
    variables = {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    made = jobs.submit(client, make_order(), environment=variables)
    assert made.is_new
    assert made.submission_id == made.sweep_id == make_order().plan.sweep_id
    assert client.shipped == [{"search_spaces", "service", "trainers", "order.json"}]
    assert client.environment[0]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert client.infos[0].entrypoint == "python -m service drive order.json"
    assert jobs.order_of(client, made) == make_order()


def test_an_order_names_the_changes_of_the_study_as_it_always_did() -> None:
    changes = StudyChanges(retry=(3,), warm_start="tiny-0")
    order = JobOrder(plan=make_sweep_plan(), changes=changes)
    written = json.loads(order.model_dump_json())
    assert written["wishes"] == {"retry": [3], "retry_failed": False, "warm_start": "tiny-0"}
    assert set(written) == {"plan", "wishes", "max_driver_restarts", "python"}
    assert JobOrder.model_validate(written) == order


def test_the_same_sweep_submitted_twice_is_one_job() -> None:
    client = MemoryClient()
    first = jobs.submit(client, make_order())
    second = jobs.submit(client, make_order())
    assert (second.submission_id, second.is_new) == (first.submission_id, False)
    assert len(client.infos) == 1


def test_another_attempt_needs_the_first_to_have_ended() -> None:
    client = MemoryClient()
    sweep_id = jobs.submit(client, make_order()).sweep_id
    with pytest.raises(JobError, match=f"{sweep_id} in state RUNNING.*kd-sweep stop {sweep_id}"):
        jobs.submit(client, make_order(), again=True)
    client.infos[0].status = "FAILED"
    assert jobs.submit(client, make_order(), again=True).submission_id == f"{sweep_id}-a2"
    assert [job.submission_id for job in jobs.jobs_of(client, sweep_id)] == [
        sweep_id,
        f"{sweep_id}-a2",
    ]


def test_a_sweep_is_found_by_its_id_its_beginning_or_as_the_latest() -> None:
    client = MemoryClient()
    first = jobs.submit(client, make_order(name="alpha"))
    second = jobs.submit(client, make_order(name="beta"))
    assert jobs.find_job(client, first.sweep_id).submission_id == first.submission_id
    assert jobs.find_job(client, "alp").sweep_id == first.sweep_id
    assert jobs.find_job(client, "latest").sweep_id == second.sweep_id
    with pytest.raises(JobError, match=f"'beto'.*got 0.*newest are: .*{second.sweep_id}"):
        jobs.find_job(client, "beto")


def test_stopping_reaches_the_driver_and_waits_for_it() -> None:
    client = MemoryClient()
    job = jobs.submit(client, make_order())
    assert jobs.stop(client, job).status == "STOPPED"
    assert client.infos[1].entrypoint == f"python -m service control {job.sweep_id} stop"
    assert client.infos[1].runtime_env == client.infos[0].runtime_env, "the driver's own code"
    assert len(client.shipped) == 1, "nothing travels to say a word"
    assert client.stopped == [], "Ray had not to be asked"
    assert len(jobs.all_jobs(client)) == 1, "what was said is no job of the sweep"


def test_a_driver_that_is_gone_hears_nothing() -> None:
    client = MemoryClient()
    job = SweepJob("tiny-1", "tiny-1", "FAILED")
    with pytest.raises(JobError, match="tiny-1 is FAILED.*kd-sweep resume tiny-1"):
        jobs.stop_trial(client, job, 3)


def test_a_job_that_goes_on_is_given_back_after_the_wait() -> None:
    client = MemoryClient()
    job = jobs.submit(client, make_order())
    seconds = iter(range(100))
    waited = jobs.wait(
        client, job, timeout_s=5, sleep=lambda s: None, clock=lambda: float(next(seconds))
    )
    assert waited.status == "RUNNING"


def test_logs_come_line_by_line() -> None:
    client = MemoryClient()
    job = jobs.submit(client, make_order())
    assert list(jobs.logs(client, job, follow=False)) == ["first", "second"]
    assert list(jobs.logs(client, job, follow=True)) == ["first", "second"]


def test_a_log_is_followed_where_an_event_loop_runs() -> None:
    client = MemoryClient(log=[f"line {number} of a log" for number in range(30)])
    job = jobs.submit(client, make_order())

    async def follow() -> list[str]:
        return list(jobs.logs(client, job, follow=True))

    assert asyncio.run(follow()) == client.log


def test_who_stops_following_waits_for_no_further_line() -> None:
    client = MemoryClient(log=[f"line {number} of a log" for number in range(30)])
    client.is_quiet = True
    before = threading.active_count()
    lines = jobs.logs(client, jobs.submit(client, make_order()), follow=True)
    assert next(lines) == client.log[0]
    lines.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_a_refused_job_says_why() -> None:
    client = MemoryClient()
    client.submit_job = lambda **_: (_ for _ in ()).throw(RuntimeError("no disk"))  # type: ignore[method-assign]
    with pytest.raises(JobError, match="refused: no disk"):
        jobs.submit(client, make_order())


def test_an_address_that_is_no_url_is_refused() -> None:
    message = "must start with http:// or https://, but got 'head:8265'"
    with pytest.raises(JobError, match=message):
        jobs.connect(Cluster("head:8265"))


def test_a_token_travels_with_each_question(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str]] = []

    class Client:
        def __init__(self, address: str, headers: dict[str, str]) -> None:
            asked.append(headers)

        def _do_request(self, method: str, path: str) -> Any:
            return SimpleNamespace(json=lambda: {"ray_version": ray.__version__})

        def list(self, resource: Any, **options: Any) -> list[Any]:
            return [SimpleNamespace(state="ALIVE", resources_total={"CPU": 3.0})]

    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", Client)
    monkeypatch.setattr(ray.util.state, "StateApiClient", Client)
    cluster = Cluster("http://head:8265", token="secret")
    jobs.connect(cluster)
    assert jobs.cluster_resources(cluster).num_cpus == 3
    jobs.connect(Cluster("http://head:8265"))
    with_token = {"Authorization": "Bearer secret"}
    assert asked == [with_token, with_token, {}]


def test_a_cluster_that_does_not_answer_is_named() -> None:
    with pytest.raises(JobError, match=r"must answer at http://127\.0\.0\.1:9.*ray start --head"):
        jobs.connect(Cluster("http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Request failed with status code 401", "RAY_AUTH_MODE=token"),
        ("Authentication failed: invalid token", "RAY_AUTH_MODE=token"),
        ("Version check returned 404", "must be a Ray dashboard, but got: Version check"),
    ],
)
def test_what_the_cluster_refuses_is_explained(text: str, message: str) -> None:
    assert message in jobs._refused("http://head:8265", text)


def test_another_ray_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class OldClient:
        def __init__(self, address: str, headers: dict[str, str]) -> None:
            self.address = address

        def _do_request(self, method: str, path: str) -> Any:
            return SimpleNamespace(json=lambda: {"ray_version": "2.10.0"})

    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", OldClient)
    with pytest.raises(JobError, match="same version here and there.*2.10.0 at http://head"):
        jobs.connect(Cluster("http://head:8265"))


def test_another_python_there_is_refused(tmp_path: Path) -> None:
    order = make_order().model_dump(mode="json") | {"python": "2.7"}
    (tmp_path / "order.json").write_text(json.dumps(order))
    with pytest.raises(JobError, match="Python must be the same version.*got 2.7 there"):
        jobs.read_order(tmp_path / "order.json")


def test_a_worker_must_fit_on_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"CPU": 2.0}, {"CPU": 4.0}]
    monkeypatch.setattr(jobs, "_nodes", lambda cluster: nodes)
    cluster = Cluster("http://head")
    assert jobs.cluster_resources(cluster).num_cpus == 6
    fitting = make_sweep_plan(cpus=6, resources={"cpus_per_worker": 3})
    jobs.check_workers_fit(fitting, cluster)
    large = make_sweep_plan(cpus=6, resources={"cpus_per_worker": 5})
    with pytest.raises(PlanError, match="a worker of 5 CPUs and 0 GPUs.*at most 4 CPUs"):
        jobs.check_workers_fit(large, cluster)


def test_the_users_modules_travel_without_what_is_left_out(tmp_path: Path) -> None:
    code = tmp_path / "mine"
    for name in ("my_losses.py", "data/large.bin", "deep/part.py"):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text("x")
    (code / ".kd-sweep-ignore").write_text("data\n")
    target = tmp_path / "ship"
    ship(target, code)
    assert (target / "my_losses.py").exists()
    assert (target / "deep" / "part.py").exists()
    assert not (target / "data").exists()
    assert (target / "trainers" / "worker.py").exists()


def test_code_that_is_too_large_is_refused_with_its_largest_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "LARGEST_BYTES", 2 * 1024**2)
    (tmp_path / "weights.bin").write_bytes(b"x" * 3 * 1024**2)
    (tmp_path / "small.py").write_text("x")
    message = r"at most 2 MiB can be shipped, but got 3 MiB; the largest are weights.bin \(3 MiB\)"
    with pytest.raises(JobError, match=message):
        copy_code(tmp_path, tmp_path / "ship")
