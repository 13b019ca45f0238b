"""What the routes answer: the commands' own JSON, problems in parts, parts of lists, tags."""

import json
from pathlib import Path
from typing import Any

import pytest
from api_support import PLAN, Service
from cli_support import document

from service.actions import record
from service.actions.json_types import adapter_of
from service.api.problems import parts_of
from service.driver.lock import sweep_lock
from service.driver.log import driver_log
from service.events import Notice, TrialEnded, TrialStarted
from service.home import sweeps_folder
from service.plan.places import plan_file
from service.states import TrialState

MINE = PLAN.sweep_id
ONE = f"/api/v1/sweeps/{MINE}"
ANSWERS = {
    "sweeps": "/api/v1/sweeps",
    "status": f"{ONE}/status",
    "trials": f"{ONE}/trials",
    "best": f"{ONE}/best?where=tau<3&top=1",
    "compare": f"/api/v1/compare?run={MINE}/0&run={MINE}/1",
    "report": f"{ONE}/report",
    "presets": "/api/v1/presets",
    "schema": "/api/v1/schema",
    "users list": "/api/v1/users",
}


@pytest.mark.parametrize("command", ANSWERS)
def test_the_answer_is_the_commands_json(served: Service, command: str) -> None:
    answer = served("root", "GET", ANSWERS[command])
    assert answer.status_code == 200, answer.text
    adapter_of(command).validate_json(answer.content)
    assert answer.json()


def test_an_answer_is_to_the_letter_what_the_action_says(served: Service) -> None:
    found = record.list_trials(MINE, served.hosted.workspace)
    assert served("anna", "GET", f"{ONE}/trials").json() == found.to_json()


def test_who_has_an_answer_already_is_told_so(served: Service) -> None:
    first = served("anna", "GET", f"{ONE}/trials")
    again = served("anna", "GET", f"{ONE}/trials", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    before = served("root", "GET", "/api/v1/sweeps")
    headers = {"If-None-Match": f'"x", {before.headers["ETag"]}'}
    assert served("root", "GET", "/api/v1/sweeps", headers=headers).status_code == 304


def test_a_list_comes_part_by_part(served: Service) -> None:
    whole = served("root", "GET", "/api/v1/sweeps").json()
    path, parts = "/api/v1/sweeps?limit=1", list[Any]()
    while path:
        part = served("root", "GET", path)
        parts += part.json()
        path = part.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert parts == whole and len(whole) == 3
    wrong = served("root", "GET", "/api/v1/sweeps?cursor=nothing")
    assert (wrong.status_code, wrong.json()["errors"][0]["place"]) == (422, "cursor")


# -- problems


def test_a_problem_has_the_parts_of_the_commands_message(served: Service) -> None:
    wrong = document(search={"tau": {"float": [0, 8], "log": True}}, trials=-3)
    answer = served("anna", "POST", "/api/v1/plan", json={"spec": wrong})
    told = answer.json()
    assert (answer.status_code, told["exit_code"]) == (422, 2)
    assert told["type"] == "urn:kd-sweep:SpecError"
    assert len(told["errors"]) >= 1
    for one in told["errors"]:
        assert one["place"] and one["rule"] and one["got"]


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        (
            "search.tau: low > 0 must hold, but got low=0.0. Use a positive low.",
            ("search.tau", "low > 0 must hold", "low=0.0", "Use a positive low."),
        ),
        ("data: must be there.", ("data", "must be there", None, None)),
        ("no colon here", (None, "no colon here", None, None)),
        (
            "trials: must be one of a, b, but got 'c'. Did you mean 'b'? See init.",
            ("trials", "must be one of a, b", "'c'", "Did you mean 'b'? See init."),
        ),
    ],
)
def test_a_message_is_taken_apart(message: str, parts: tuple[str | None, ...]) -> None:
    (found,) = parts_of(message)
    assert (found.place, found.rule, found.got, found.remedy) == parts


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"{ONE}/best?metric=nonsense", 422, 2),
        (f"{ONE}/best?where=what", 422, 2),
        (f"/api/v1/compare?run={MINE}/0", 422, 2),
        (f"/api/v1/compare?run={MINE}/0&run={MINE}/99", 404, 5),
        ("/api/v1/sweeps/none-such/status", 404, 5),
        (f"{ONE}/logs", 409, 4),
        ("/api/v1/presets/nonsense", 422, 2),
        ("/api/v1/presets/_starter", 422, 2),
    ],
)
def test_each_kind_of_error_has_its_status(
    served: Service, path: str, status: int, code: int
) -> None:
    answer = served("anna", "GET", path)
    assert (answer.status_code, answer.json()["exit_code"]) == (status, code), answer.text


def test_an_error_of_the_services_own_tells_nothing_of_it(
    fresh: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise RuntimeError("password hunter2")

    monkeypatch.setattr(record, "list_sweeps", fail)
    answer = fresh("root", "GET", "/api/v1/sweeps")
    assert (answer.status_code, "hunter2" in answer.text) == (500, False)


# -- logs and events


def write_log(served: Service, *events: Any) -> Path:
    folder = sweeps_folder(served.hosted.workspace.home) / MINE
    folder.mkdir(parents=True, exist_ok=True)
    plan_file(folder).write_text(PLAN.model_dump_json())
    with sweep_lock(folder), driver_log(folder) as write:
        for one in events:
            write(one)
    return folder


EVENTS = [
    TrialStarted(0, 0, None, {"tau": 1.0}),
    Notice("see http://user:hunter2@host"),
    TrialEnded(0, TrialState.COMPLETED, 3.0),
]


def test_logs_are_a_document_in_each_line(fresh: Service) -> None:
    write_log(fresh, *EVENTS)
    answer = fresh("anna", "GET", f"{ONE}/logs")
    assert answer.headers["content-type"] == "application/x-ndjson"
    for line in answer.text.splitlines():
        adapter_of("logs").validate_json(line)
    assert "hunter2" not in answer.text and len(answer.text.splitlines()) == 3
    of_trial = fresh("anna", "GET", f"{ONE}/logs?trial=0").text.splitlines()
    assert len(of_trial) == 2


def streamed(text: str) -> list[dict[str, str]]:
    blocks = [block for block in text.split("\n\n") if "data: " in block]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def test_events_come_until_the_end_and_go_on_where_a_caller_left(fresh: Service) -> None:
    write_log(fresh, *EVENTS)
    found = streamed(fresh("anna", "GET", f"{ONE}/events").text)
    assert [json.loads(one["data"]).get("event") for one in found[:-1]] == [
        "TrialStarted",
        "Notice",
        "TrialEnded",
    ]
    assert found[-1]["event"] == "end"
    assert json.loads(found[-1]["data"])["state"] == "completed"
    assert "hunter2" not in str(found)
    headers = {"Last-Event-ID": found[-1]["id"]}
    rest = streamed(fresh("anna", "GET", f"{ONE}/events", headers=headers).text)
    assert [one.get("event") for one in rest] == ["end"]
    again = streamed(fresh("anna", "GET", f"{ONE}/events?after=nonsense").text)
    assert len(again) == 4
