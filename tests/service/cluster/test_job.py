"""Sweeps as jobs, against a cluster that only remembers; and what is shipped to it."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from fakes import MemoryClient, make_sweep_plan

from service.cluster import job as jobs
from service.cluster import shipping
from service.cluster.job import JobOrder
from service.cluster.shipping import copy_code, ship
from service.cluster.sweep_job import SweepJob, all_jobs, find_job, jobs_of, reason_of
from service.driver.study_changes import StudyChanges
from service.errors import JobError
from service.events import Notice, to_line
from service.states import TrialState


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
    changes = StudyChanges(retry=(3,))
    order = JobOrder(plan=make_sweep_plan(), changes=changes)
    written = json.loads(order.model_dump_json())
    assert written["wishes"] == {"retry": [3], "retry_failed": False}
    assert set(written) == {"plan", "wishes", "max_driver_restarts", "python"}
    assert JobOrder.model_validate(written) == order
    written["wishes"] |= {"warm_start": None}  # of an older version
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
    with pytest.raises(JobError, match=f"{sweep_id}, which is running.*kd-sweep stop {sweep_id}"):
        jobs.submit(client, make_order(), again=True)
    client.infos[0].status = "FAILED"
    assert jobs.submit(client, make_order(), again=True).submission_id == f"{sweep_id}-a2"
    assert [job.submission_id for job in jobs_of(client, sweep_id)] == [
        sweep_id,
        f"{sweep_id}-a2",
    ]


def test_a_sweep_is_found_by_its_id_its_beginning_or_as_the_latest() -> None:
    client = MemoryClient()
    first = jobs.submit(client, make_order(name="alpha"))
    second = jobs.submit(client, make_order(name="beta"))
    assert find_job(client, first.sweep_id).submission_id == first.submission_id
    assert find_job(client, "alp").sweep_id == first.sweep_id
    assert find_job(client, "latest").sweep_id == second.sweep_id
    with pytest.raises(JobError, match=f"'beto'.*got 0.*newest: .*{second.sweep_id}"):
        find_job(client, "beto")


def test_stopping_reaches_the_driver_and_waits_for_it() -> None:
    client = MemoryClient()
    job = jobs.submit(client, make_order())
    assert jobs.stop(client, job).state is TrialState.CANCELLED
    assert client.infos[1].entrypoint == f"python -m service control {job.sweep_id} stop"
    assert client.infos[1].runtime_env == client.infos[0].runtime_env, "the driver's own code"
    assert len(client.shipped) == 1, "nothing travels to say a word"
    assert client.stopped == [], "Ray had not to be asked"
    assert len(all_jobs(client)) == 1, "what was said is no job of the sweep"


def test_a_driver_that_only_starts_is_stopped_by_ray() -> None:
    """It has no board yet that could be told."""
    client = MemoryClient(control="FAILED")
    job = jobs.submit(client, make_order())
    assert jobs.stop(client, job).state is TrialState.CANCELLED
    assert client.stopped == [job.submission_id]


def test_what_has_ended_is_not_stopped() -> None:
    client = MemoryClient()
    job = SweepJob("tiny-1", "tiny-1", TrialState.COMPLETED)
    with pytest.raises(JobError, match="tiny-1 is completed.*kd-sweep resume tiny-1"):
        jobs.stop(client, job)
    assert client.infos == client.stopped == []


def test_a_driver_that_refuses_is_quoted() -> None:
    client = MemoryClient(control="FAILED")
    job = jobs.submit(client, make_order())
    with pytest.raises(JobError, match=r"^trial 3 must be running$"):
        jobs.stop_trial(client, job, 3)


@pytest.mark.parametrize(
    ("status", "exit_code", "state"),
    [
        ("PENDING", None, TrialState.PENDING),
        ("RUNNING", None, TrialState.RUNNING),
        ("SUCCEEDED", 0, TrialState.COMPLETED),
        ("FAILED", 4, TrialState.FAILED),
        ("FAILED", None, TrialState.FAILED),
        ("FAILED", 130, TrialState.CANCELLED),
        ("STOPPED", None, TrialState.CANCELLED),
    ],
)
def test_a_job_has_our_states(status: str, exit_code: int | None, state: TrialState) -> None:
    client = MemoryClient()
    jobs.submit(client, make_order())
    client.infos[0].status, client.infos[0].driver_exit_code = status, exit_code
    client.infos[0].message = "a wall of events"
    (job,) = all_jobs(client)
    assert job.state is state
    assert job.to_json()["message"] == ("a wall of events" if state == "failed" else None)


RAY_SAYS = "Job entrypoint command failed with exit code 4, last available logs (truncated):\n"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("the head was lost", "the head was lost"),
        (RAY_SAYS + "{event}\n{event}\nerror: no slot can start\n", "no slot can start"),
        (RAY_SAYS + "error: the first\n{event}\nerror: sweep:\na: wrong", "sweep:\na: wrong"),
        (RAY_SAYS + "Traceback\n  File\nOSError: gone", f"{RAY_SAYS.strip()} … OSError: gone"),
        ("", ""),
    ],
)
def test_of_a_wall_of_events_the_reason_is_left(message: str, reason: str) -> None:
    event = to_line(Notice("trial 1 waits"))
    assert reason_of(message.replace("{event}", event)) == reason


def test_a_sweep_is_found_by_its_name_too() -> None:
    client = MemoryClient()
    jobs.submit(client, make_order(name="alpha", trials=3))
    newer = jobs.submit(client, make_order(name="alpha", trials=5))
    jobs.submit(client, make_order(name="alpha-wide"))
    assert find_job(client, "alpha").sweep_id == newer.sweep_id
    with pytest.raises(JobError, match="got 3"):
        find_job(client, "alph")


def test_a_driver_that_is_gone_hears_nothing() -> None:
    client = MemoryClient()
    job = SweepJob("tiny-1", "tiny-1", TrialState.FAILED)
    with pytest.raises(JobError, match="tiny-1 is failed.*kd-sweep resume tiny-1"):
        jobs.stop_trial(client, job, 3)


def test_a_job_that_goes_on_is_given_back_after_the_wait() -> None:
    client = MemoryClient()
    job = jobs.submit(client, make_order())
    seconds = iter(range(100))
    waited = jobs.wait(
        client, job, timeout_s=5, sleep=lambda s: None, clock=lambda: float(next(seconds))
    )
    assert waited.state is TrialState.RUNNING


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


def test_a_head_without_an_agent_is_named_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    client = MemoryClient()
    text = "No available agent to submit job, please try again later."
    client.submit_job = lambda **_: (_ for _ in ()).throw(RuntimeError(text))  # type: ignore[method-assign]
    monkeypatch.setattr(jobs, "START_TIMEOUT_S", 0.0)
    with pytest.raises(JobError, match=r"the head's agent must start the job.*dashboard_agent.log"):
        jobs.submit(client, make_order())


def test_another_python_there_is_refused(tmp_path: Path) -> None:
    order = make_order().model_dump(mode="json") | {"python": "2.7"}
    (tmp_path / "order.json").write_text(json.dumps(order))
    with pytest.raises(JobError, match="Python must be the same version.*got 2.7 there"):
        jobs.read_order(tmp_path / "order.json")


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


def test_a_password_does_not_travel_to_a_cluster() -> None:
    client = MemoryClient()
    variables = {"MLFLOW_TRACKING_URI": "http://me:hunter2@mlflow:5000"}
    with pytest.raises(JobError, match="must hold no password or token.*on every node") as refusal:
        jobs.submit(client, make_order(), environment=variables)
    assert "hunter2" not in str(refusal.value)
    assert all_jobs(client) == []


def test_a_dashboard_that_goes_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise ConnectionError("Connection refused")

    client = MemoryClient()
    monkeypatch.setattr(client, "list_jobs", gone)
    with pytest.raises(JobError, match="its dashboard must list its jobs, but got: Connection ref"):
        find_job(client, "latest")
