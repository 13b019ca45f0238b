"""Confirming and promoting over the API, and through the command line: whose they are, and which
names are another's."""

from pathlib import Path
from typing import Any

import pytest
from api_support import OTHERS, PLAN, Service
from client_support import listening, rows, there

from service.actions import confirm, hosted_changes, promote
from service.actions.json_types import adapter_of
from service.actions.promote import Promoted
from service.plan.estimates import InputFacts
from service.plan.resources import Resources
from service.record.registry import Version

MINE = PLAN.sweep_id
ONE = f"/api/v1/sweeps/{MINE}"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inputs of the recorded sweeps, which are nowhere, are as they were."""
    facts = InputFacts(fingerprints={"data": "d" * 64})
    monkeypatch.setattr(confirm, "input_facts", lambda spec, home: facts)
    two = Resources(num_cpus=2, disk_free=10**12)
    monkeypatch.setattr(confirm, "local_resources", lambda where: two)


@pytest.mark.usefixtures("known")
def test_a_search_is_confirmed_by_who_sees_it_as_a_sweep_of_theirs(fresh: Service) -> None:
    body = {"top": 2, "seeds": 3}
    made = fresh("paul", "POST", f"{ONE}/confirm", json=body)
    assert made.status_code == 201, made.text
    adapter_of("submit").validate_json(made.content)
    sweep = made.json()["sweep_id"]
    assert made.headers["Location"].endswith(f"/{sweep}/status")
    (launch,) = fresh.hosted.launches.all()
    assert (launch.sweep_id, launch.entry.asked.user) == (sweep, "paul")
    plan = launch.order().plan
    # The two best configs, on three seeds each that the search had not.
    assert (plan.confirms, plan.num_trials, plan.study is not None) == (MINE, 6, True)
    assert fresh.hosted.owners()[sweep].owner == "paul"
    again = fresh("paul", "POST", f"{ONE}/confirm", json=body)
    assert (again.status_code, again.json()["sweep_id"]) == (200, sweep)
    annas = fresh("anna", "POST", f"{ONE}/confirm", json=body)
    assert (annas.status_code, annas.json()["sweep_id"]) == (201, f"{sweep}-2")


@pytest.mark.usefixtures("known")
def test_a_search_without_so_many_configs_is_not_confirmed(fresh: Service) -> None:
    refused = fresh("anna", "POST", f"{ONE}/confirm", json={"top": 3})
    assert (refused.status_code, refused.json()["exit_code"]) == (409, 3)
    assert "confirm: --top must be at most" in refused.json()["detail"]
    assert fresh.hosted.launches.all() == []


@pytest.mark.usefixtures("known")
def test_the_command_confirms_through_a_server(fresh: Service) -> None:
    with listening(fresh) as server:
        given = ("confirm", MINE, "--top", "2", "--seeds", "3", "--json")
        job = rows(there(server, *given, user="anna"))
    assert [one.sweep_id for one in fresh.hosted.launches.all()] == [job["sweep_id"]]
    assert job["state"] == "pending"


@pytest.fixture
def registered(fresh: Service, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was registered, in a registry that has `secret` of otto's sweep and `ours` of anna's."""
    made: list[str] = []
    runs = {
        sweep: fresh("root", "GET", f"/api/v1/sweeps/{sweep}/trials").json()
        for sweep in (MINE, OTHERS.sweep_id)
    }
    known = [Version("ours", "1", (), runs[MINE][0]["run_id"])]
    known += [Version("secret", "7", (), runs[OTHERS.sweep_id][0]["run_id"])]

    def versions(store: str, name: str | None = None) -> list[Version]:
        return [one for one in known if name in (None, one.name)]

    def register(run: str, workspace: Any, *, name: str) -> Promoted:
        made.append(f"{run} as {name}")
        record = promote.open_record(workspace).get(run)
        return Promoted(record, Version("ours", "2", ("best",), record.run_id), "models:/ours@best")

    monkeypatch.setattr(promote, "versions", versions)
    monkeypatch.setattr(hosted_changes, "promote_trial", register)
    return made


def test_a_student_is_registered_under_a_name_of_ones_own(
    fresh: Service, registered: list[str]
) -> None:
    path = f"{ONE}/trials/1/promote"
    made = fresh("anna", "POST", path, json={"name": "ours@best"})
    assert made.status_code == 200, made.text
    adapter_of("promote").validate_json(made.content)
    for name in ("secret", "secret@champion", " secret @x"):
        refused = fresh("anna", "POST", path, json={"name": name})
        assert refused.status_code == 403
        assert "--as secret: must be a name of your own" in refused.json()["detail"]
    assert registered == [f"{MINE}/1 as ours@best"]
    assert fresh("root", "POST", path, json={"name": "secret"}).status_code == 200
    deeds = fresh("root", "GET", "/api/v1/deeds").json()
    assert [row["about"] for row in deeds] == [f"{MINE}/1 as secret", f"{MINE}/1 as ours@best"]


def test_the_command_promotes_through_a_server(
    fresh: Service, registered: list[str], tmp_path: Path
) -> None:
    with listening(fresh) as server:
        done = there(server, "promote", f"{MINE}/1", "--as", "ours@best", user="anna")
        by_run = there(server, "promote", "a" * 32, "--as", "ours", user="anna")
    assert (done.exit_code, "ours version 2 @best: mlflow" in done.stdout) == (0, True), done.output
    assert (by_run.exit_code, "a service knows trials as SWEEP/NUMBER" in by_run.stderr) == (
        2,
        True,
    )
    assert registered == [f"{MINE}/1 as ours@best"]
