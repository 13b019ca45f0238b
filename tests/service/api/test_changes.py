"""Planning, submitting, stopping and going on over the API: each once, whatever is repeated or
killed."""

import fcntl
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_support import PLAN, Service
from cli_support import document
from fakes import MemoryClient, make_study_document

from service.accounts.line import Owner, Quota
from service.actions.go_on import MoreOfStudy, order_to_extend, with_more
from service.actions.json_types import adapter_of
from service.actions.launch import LaunchState
from service.actions.launch_there import ClusterLaunches
from service.actions.status import SweepStatus
from service.cluster import dashboard
from service.cluster.job import JobOrder
from service.driver.log import LogPart
from service.plan.estimates import InputFacts
from service.plan.plan import make_plan
from service.plan.resources import Resources
from service.spec.parse import parse_spec
from service.states import TrialState
from service.workspace import Cluster

MINE = PLAN.sweep_id
ONE = f"/api/v1/sweeps/{MINE}"


# -- planning and submitting


def submit(served: Service, user: str = "anna", key: str | None = None, **body: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {"spec": document()} | body
    return served(user, "POST", "/api/v1/sweeps", json=body, headers=headers)


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_plan_is_the_commands(served: Service, form: str) -> None:
    spec = document() if form == "json" else yaml.safe_dump(document())
    body = {"spec": spec, "overrides": ["trials=2"]}
    answer = served("anna", "POST", "/api/v1/plan", json=body)
    assert answer.status_code == 200, answer.text
    adapter_of("plan").validate_json(answer.content)
    assert answer.json()["spec"]["trials"] == 2
    assert answer.json()["spec"]["data"]["train"] == str(
        served.hosted.workspace.folder / "train.jsonl"
    )


def test_a_sweep_is_submitted_once(fresh: Service) -> None:
    first, second = submit(fresh), submit(fresh)
    assert (first.status_code, second.status_code) == (201, 200)
    adapter_of("submit").validate_json(first.content)
    one, two = first.json(), second.json()
    assert (one["is_new"], two["is_new"]) == (True, False)
    assert one["sweep_id"] == two["sweep_id"]
    assert (one["state"], one["message"]) == ("pending", "is next")
    assert len(fresh.hosted.launches.all()) == 1
    assert fresh("anna", "GET", first.headers["Location"]).json()["state"] == "pending"
    assert fresh("anna", "GET", "/api/v1/status").json()[0]["sweep_id"] == one["sweep_id"]
    deeds = fresh("root", "GET", "/api/v1/deeds").json()
    assert [(row["user"], row["deed"]) for row in deeds] == [("anna", "submit")]


def test_a_sweep_that_waits_has_a_plan_and_no_trial_yet(fresh: Service) -> None:
    sweep = f"/api/v1/sweeps/{submit(fresh).json()['sweep_id']}"
    adapter_of("plan").validate_json(fresh("anna", "GET", f"{sweep}/plan").content)
    assert fresh("anna", "GET", f"{sweep}/trials").json() == []
    for path in (f"{sweep}/best", f"{sweep}/report"):
        answer = fresh("anna", "GET", path)
        assert answer.status_code == 409 and "must have been recorded" in answer.json()["detail"]
    assert fresh("anna", "GET", f"{ONE}/plan").json()["sweep_id"] == MINE


def test_a_sweep_that_two_submit_is_two(fresh: Service) -> None:
    ids = [submit(fresh, user).json()["sweep_id"] for user in ("anna", "otto", "otto")]
    assert ids[1] == ids[2] == f"{ids[0]}-2"
    for user in ("paul", "otto"):
        answer = fresh(user, "POST", f"/api/v1/sweeps/{ids[0]}/stop")
        assert answer.status_code == (403 if user == "paul" else 404)


def test_again_is_another_sweep_and_the_same_for_the_same_key(fresh: Service) -> None:
    ids = [
        submit(fresh, key=key, again=True).json()["sweep_id"]
        for key in ("key-number-1", "key-number-1", "key-number-2", None, None)
    ]
    assert ids[0] == ids[1] and len(set(ids)) == 4
    assert len(fresh.hosted.launches.all()) == 4
    other = submit(fresh, key="key-number-1", overrides=["trials=9"])
    assert (other.status_code, other.json()["errors"][0]["place"]) == (422, "Idempotency-Key")


@pytest.mark.parametrize("killed_at", ["once", "put", "note"])
def test_a_service_that_is_killed_in_a_submit_leaves_one_sweep(
    fresh: Service, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    place = {
        "once": fresh.hosted.accounts.sweeps,
        "put": fresh.hosted.launches,
        "note": fresh.hosted.accounts,
    }[killed_at]

    def kill(*given: Any, **named: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(type(place), killed_at, kill)
        assert submit(fresh, key="key-number-1").status_code == 500
    assert submit(fresh, key="key-number-1").status_code in (200, 201)
    assert len(fresh.hosted.launches.all()) == 1


def test_too_many_at_once_are_refused(fresh: Service) -> None:
    fresh.hosted.accounts.quotas.put(Owner.USER, "anna", Quota(open_sweeps=1))
    submit(fresh)
    refused = submit(fresh, again=True)
    assert refused.status_code == 403
    assert "user anna: 1 sweeps at most may run or wait" in refused.json()["detail"]
    assert fresh("anna", "POST", f"{ONE}/resume").status_code == 403
    assert submit(fresh, "otto").status_code == 201


def messages(served: Service) -> dict[str, str]:
    rows = served("root", "GET", "/api/v1/status").json()
    return {row["sweep_id"]: row["message"] for row in rows if row["state"] == "pending"}


def test_the_line_is_by_priority_and_says_what_is_waited_for(fresh: Service) -> None:
    low = submit(fresh, overrides=["name=low"], priority="low").json()["sweep_id"]
    normal = submit(fresh, "otto").json()["sweep_id"]
    high = submit(fresh, "root", overrides=["name=high"], priority="high").json()["sweep_id"]
    assert messages(fresh) == {
        high: "is next",
        normal: "waits for 1 before it",
        low: "waits for 2 before it",
    }
    for user in ("anna", "paul"):
        refused = submit(fresh, user, overrides=["name=x"], priority="high")
        assert refused.status_code == 403
        assert "priority: must be low or normal unless an admin" in refused.json()["detail"]
    assert submit(fresh, priority="urgent").status_code == 422
    assert len(fresh.hosted.launches.all()) == 3


def test_what_is_waited_for_is_sent_to_who_looks_on(fresh: Service) -> None:
    first = submit(fresh, overrides=["name=first"]).json()["sweep_id"]
    log = fresh.hosted.news_of(submit(fresh).json()["sweep_id"])
    texts = [json.loads(line)["text"] for line in log.read().part.lines]
    assert texts == ["waits for 1 before it"]
    assert log.read("0").part == LogPart([], "0")  # it has not changed
    fresh("anna", "POST", f"/api/v1/sweeps/{first}/stop")
    news = log.read("0")
    assert [json.loads(line)["text"] for line in news.part.lines] == ["is next"]
    assert not news.is_over


def test_a_sweep_counts_for_its_owner_and_their_project(fresh: Service) -> None:
    fresh.hosted.accounts.quotas.put(Owner.PROJECT, "anna", Quota(trials_at_once=1))
    refused = submit(fresh)
    assert refused.status_code == 403
    assert "project anna: 1 trials at most may train at once, but" in refused.json()["detail"]
    assert submit(fresh, overrides=["resources.slots=1"]).status_code == 201
    # An admin who goes on with it does so for its owner.
    assert fresh("root", "POST", f"{ONE}/resume").status_code == 403
    asked = fresh.hosted.launches.all()[0].entry.asked
    assert (asked.user, asked.project, asked.trials, asked.gpus) == ("anna", "anna", 1, 0.0)


def test_what_a_user_may_not_name_is_not_even_looked_at(fresh: Service, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef loss(): pass\n")
    spec = document(loss={"divergence": "mine:loss"})
    for path in ("/api/v1/plan", "/api/v1/sweeps"):
        answer = fresh("anna", "POST", path, json={"spec": spec})
        assert answer.json()["errors"][0]["place"] == "divergence"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("spec", ["/etc/passwd", "sweep.yaml", "../x", "nonsense", "a: b", "- 1\n"])
def test_a_text_that_is_no_document_opens_no_file(fresh: Service, spec: str) -> None:
    (fresh.hosted.workspace.folder / "sweep.yaml").write_text("name: found")
    answer = fresh("anna", "POST", "/api/v1/plan", json={"spec": spec})
    assert answer.status_code == 422
    assert "root:" not in answer.text and "found" not in answer.text


# -- going on


def waiting(served: Service) -> list[str]:
    known = served.hosted.launches.all()
    return [one.sweep_id for one in known if one.state is LaunchState.WAITING]


def test_a_sweep_that_waits_is_taken_out_of_the_line(fresh: Service) -> None:
    sweep = submit(fresh).json()["sweep_id"]
    stopped = fresh("anna", "POST", f"/api/v1/sweeps/{sweep}/stop")
    assert (stopped.status_code, stopped.json()["state"]) == (200, "cancelled")
    assert waiting(fresh) == []


def test_an_ended_sweep_is_extended_once_for_a_key(fresh: Service) -> None:
    path, headers = f"{ONE}/extend", {"Idempotency-Key": "more-more-1"}
    for _ in range(2):
        answer = fresh("anna", "POST", path, json={"trials": 4}, headers=headers)
        assert (answer.status_code, answer.json()["state"]) == (200, "pending")
    assert waiting(fresh) == [MINE]
    (launch,) = fresh.hosted.launches.all()
    order = json.loads((launch.folder / "order.json").read_text())
    wanted = order_to_extend(MINE, fresh.hosted.workspace, trials=4)
    assert order["plan"]["num_trials"] == wanted.plan.num_trials == PLAN.num_trials + 4
    shown = fresh("anna", "GET", f"{ONE}/plan").json()
    assert shown["num_trials"] == wanted.plan.num_trials
    without = fresh("anna", "POST", path, json={"trials": 4})
    assert (without.status_code, without.json()["exit_code"]) == (409, 4)
    assert "must have ended before it goes on, but it is pending" in without.json()["detail"]


def test_a_study_is_not_extended_by_code_of_the_users_own(
    fresh: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = parse_spec(make_study_document())
    plan = make_plan(spec, InputFacts(), Resources(num_cpus=2), code_version="test")

    def order(sweep: str, workspace: Any, *, trials: Any, study: MoreOfStudy) -> JobOrder:
        return JobOrder(plan=with_more(plan, study=study))

    monkeypatch.setattr("service.actions.go_on.order_to_extend", order)
    answer = fresh("anna", "POST", f"{ONE}/extend", json={"cells": [{"divergence": "os:system"}]})
    assert answer.status_code == 422
    assert "divergence: must be one that is shipped" in answer.json()["detail"]
    assert waiting(fresh) == []


def test_a_sweep_is_resumed(fresh: Service) -> None:
    answer = fresh("anna", "POST", f"{ONE}/resume")
    assert answer.json()["state"] == "pending" and waiting(fresh) == [MINE]


def test_a_sweep_that_only_starts_is_stopped_once_it_hears(
    fresh: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its launch runs, and after a while its driver too, which then obeys."""
    sweep = submit(fresh).json()["sweep_id"]
    (launch,) = fresh.hosted.launches.all()
    asked: list[str] = []

    def driver_appears(seconds: float) -> None:
        drivers[:] = ["process 7 on host"]

    def stop(reference: str, workspace: Any) -> SweepStatus:
        asked.append(reference)
        return SweepStatus(reference, TrialState.CANCELLED, None)

    drivers: list[str] = []
    monkeypatch.setattr("service.actions.hosted_changes.time.sleep", driver_appears)
    monkeypatch.setattr(
        "service.actions.follow.sweep_status",
        lambda *given: SweepStatus(sweep, TrialState.RUNNING, drivers[0] if drivers else None),
    )
    monkeypatch.setattr("service.actions.follow.stop_sweep", stop)
    with (launch.folder / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        answer = fresh("anna", "POST", f"/api/v1/sweeps/{sweep}/stop")
    assert (answer.status_code, asked, drivers != []) == (200, [sweep], True)


def test_what_does_not_run_is_not_stopped(served: Service) -> None:
    for path in ("stop", "trials/0/stop"):
        answer = served("anna", "POST", f"{ONE}/{path}")
        assert (answer.status_code, answer.json()["exit_code"]) == (409, 4)


# -- a service in front of a cluster


def test_a_sweep_goes_to_the_cluster_that_the_service_has(
    fresh: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MemoryClient()
    monkeypatch.setattr(dashboard, "connect", lambda cluster: client)
    monkeypatch.setattr(dashboard, "cluster_resources", lambda cluster: Resources(num_cpus=2))
    monkeypatch.setattr(dashboard, "check_workers_fit", lambda plan, cluster: None)
    place = fresh.hosted.workspace.on(Cluster("http://head:8265"))
    line = ClusterLaunches(place, at_once=1)
    fresh.client.app.state.hosted = replace(  # type: ignore[attr-defined]
        fresh.hosted, workspace=place, launches=line
    )
    first, second = submit(fresh), submit(fresh)
    assert (first.status_code, second.status_code) == (201, 200), first.text
    assert len(client.infos) == 1
    sweep = first.json()["sweep_id"]
    assert fresh("anna", "GET", "/api/v1/status").json()[0]["sweep_id"] == sweep
    assert fresh("otto", "GET", "/api/v1/status").json() == []
    assert fresh("otto", "POST", f"/api/v1/sweeps/{sweep}/stop").status_code == 404
    # Another one waits, and leaves the line; the first goes on as another job once it has ended.
    other = submit(fresh, "otto").json()
    assert other["message"] == "waits for 1 before it"
    assert fresh("otto", "POST", f"/api/v1/sweeps/{other['sweep_id']}/stop").status_code == 200
    path = f"/api/v1/sweeps/{sweep}"
    assert fresh("anna", "POST", f"{path}/resume").status_code == 409
    client.infos[0].status = "STOPPED"
    line.look_again()
    line.begin_next()
    assert fresh("anna", "GET", f"{path}/status").json()["state"] == "cancelled"
    monkeypatch.setattr(
        "service.actions.go_on.order_to_resume", lambda *given: line.all()[0].order()
    )
    assert fresh("anna", "POST", f"{path}/resume").json()["state"] == "running"
    assert [one.submission_id for one in client.infos] == [sweep, f"{sweep}-a2"]
