"""A client alone: results come whole, what is wrong with the service is said in one sentence, and
what breaks in between is asked again, but done once."""

import json
import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from api_support import DAY_S, PLAN, Clock, service
from cli_support import call
from client_support import Answer, Handler, Listening, listening, scripted
from fakes import make_study_document
from records_support import record_of

from service.actions import follow, record, report
from service.actions.cluster import submit_sweep
from service.actions.launch import LaunchState
from service.actions.plan import plan_sweep
from service.actions.run_result import SweepBegins
from service.api.access import MOST_TRIES, Tries
from service.client import sending, streaming
from service.client.asking import ask_all, route
from service.errors import JobError, SpecError, SweepError
from service.events import DriverEvent, Notice, to_line
from service.record.records import RunRecord
from service.spec.document import SweepSpec
from service.spec.file import load_sweep, preset_names
from service.spec.parse import parse_spec
from service.wire import MEDIA_TYPE, pack, unpack
from service.workspace import Server, Workspace

MINE = PLAN.sweep_id


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a service that is only played."""
    monkeypatch.setattr(sending.time, "sleep", lambda seconds: None)


@pytest.fixture(scope="module")
def _standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    with service(tmp_path_factory.mktemp("served")) as made, listening(made) as server:
        yield server


@pytest.fixture
def served(_standing: Listening) -> Listening:
    _standing.service.clock.now = Clock.now
    _standing.service.client.app.state.tries = Tries()  # type: ignore[attr-defined]
    return _standing


# -- results


def test_results_are_the_same_values_as_where_the_sweeps_are(served: Listening) -> None:
    there, here = served.to("root"), served.here
    assert record.list_sweeps(there) == record.list_sweeps(here)
    assert record.list_trials(MINE, there) == record.list_trials(MINE, here)
    assert record.best_trials(MINE, there) == record.best_trials(MINE, here)
    runs = [f"{MINE}/0", f"{MINE}/1"]
    assert record.compare_trials(runs, there) == record.compare_trials(runs, here)
    of_seeds = record.compare_trials([MINE], there, significance=True, examples=True)
    assert of_seeds == record.compare_trials([MINE], here, significance=True, examples=True)
    assert follow.list_statuses(there) == follow.list_statuses(here)
    assert follow.sweep_status(MINE, there) == follow.sweep_status(MINE, here)
    pages = [report.make_report(MINE, place).to_json() for place in (there, here)]
    assert json.dumps(pages[0]) == json.dumps(pages[1])
    assert plan_sweep("demo", there) == plan_sweep("demo", here)


def test_a_list_is_read_to_its_end(served: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.client.asking.ROWS", 1)
    there = served.to("root")
    assert record.list_sweeps(there) == record.list_sweeps(served.here)
    assert len(ask_all(there, route("sweeps", MINE, "trials"), RunRecord)) == 2


def test_numbers_that_json_has_no_word_for_come_through() -> None:
    values = {"nan": math.nan, "most": math.inf, "least": -math.inf, "tiny": 5e-324, "third": 1 / 3}
    sent = replace(record_of(0, {"tau": 1.0}, values), objective=math.nan)
    (found,) = unpack(list[RunRecord], pack([sent]))
    assert repr(found) == repr(sent)


@pytest.mark.parametrize("name", [*preset_names(), "study"])
def test_a_planned_sweep_is_submitted_as_it_was_meant(name: str, tmp_path: Path) -> None:
    if name == "study":
        spec = parse_spec(make_study_document())
    else:
        spec = load_sweep(name, ["tracking.experiment=mine"], tmp_path).spec
    planned = unpack(SweepSpec, pack(spec))
    assert parse_spec(planned.model_dump(mode="json", exclude_unset=True)) == spec


# -- what is wrong, in one sentence


def closed(served: Listening) -> Server:
    return replace(served.to("root"), address="http://127.0.0.1:9")


REFUSALS = [
    (closed, JobError, r"server http://127.0.0.1:9: must answer, but got: Connection refused\. Is"),
    (
        lambda served: served.to("kds_000000000000_wrong"),
        JobError,
        "token: must be one that the service gave out and that has not ended, but got another",
    ),
    (
        lambda served: replace(served.to("root"), address=f"{served.address}/elsewhere"),
        JobError,
        "/elsewhere/api/v1/sweeps: must be a path of the service, but there is no such one",
    ),
]


@pytest.mark.parametrize(("make", "kind", "message"), REFUSALS)
def test_what_is_no_service_of_the_users_is_said(
    served: Listening, make: Any, kind: type[SweepError], message: str
) -> None:
    with pytest.raises(kind, match=f"^{message}"):
        record.list_sweeps(make(served))


def test_a_token_that_has_ended_and_a_role_too_low_are_said(served: Listening) -> None:
    with pytest.raises(SweepError, match="the role must be submitter or more") as refused:
        plan_sweep("demo", served.to("vera"))
    assert refused.value.exit_code == 1
    served.service.clock.now += DAY_S + 1
    with pytest.raises(JobError, match="that has not ended"):
        record.list_sweeps(served.to("anna"))


def test_too_many_wrong_tokens_are_said(served: Listening) -> None:
    for _ in range(MOST_TRIES):
        with pytest.raises(JobError, match="token: must be one"):
            record.list_sweeps(served.to("kds_000000000000_wrong"))
    with pytest.raises(JobError, match="10 wrong ones a minute at most"):
        record.list_sweeps(served.to("kds_000000000000_wrong"))


def test_a_service_of_another_version_does_nothing(
    served: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "accepted", lambda: f"{MEDIA_TYPE}; version=9.9")
    with pytest.raises(JobError, match=r"must be the service's version, \S+, but got 9\.9\. Inst"):
        submit_sweep(PLAN, served.to("anna"))
    assert served.service.hosted.launches.all() == []


def page(handler: Handler) -> None:
    handler.say(200, {"Content-Type": "text/html"}, b"<html>Log in</html>")


def elsewhere(handler: Handler) -> None:
    handler.say(302, {"Location": "https://login.example.org/"})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (page, "must be a service of kd-sweep, but it answered 200 with text/html"),
        (elsewhere, "must be the address of the service itself, but .* https://login.example.org/"),
    ],
)
def test_what_is_another_server_is_said(answer: Answer, message: str, tmp_path: Path) -> None:
    with scripted(answer) as other:
        server = Server(other.address, "secret-token", Workspace(tmp_path))
        for ask in (record.list_sweeps, lambda place: follow.watch_sweep("latest", place)):
            with pytest.raises(JobError, match=message):
                ask(server)


@pytest.mark.parametrize(
    ("address", "token", "message"),
    [
        ("head:8266", "t", "--server: must start with http:// or https://.* but got 'head:8266'"),
        ("https://a:secret@b", "t", r"--server: .* but got 'https://a:\*\*\*@b'"),
        ("https://b", "", "KD_SWEEP_TOKEN: must hold your token of https://b, but got none"),
        ("https://b", "a\nb", "KD_SWEEP_TOKEN: must hold .* but got one with other characters"),
    ],
)
def test_an_address_or_a_token_that_cannot_be_one_is_named(
    tmp_path: Path, address: str, token: str, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        Server(address, token, Workspace(tmp_path))


def test_a_profile_names_the_service_and_the_tokens_file(
    served: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kd-sweep.toml").write_text(
        f'[profiles.team]\nserver = "{served.address}"\ntoken_file = "token"\n'
    )
    missing = call("--profile", "team", "sweeps")
    assert missing.exit_code == 2
    assert "profiles.team.token_file: must be a file with the service's token" in missing.stderr
    (tmp_path / "token").write_text(served.service.tokens["anna"] + "\n")
    found = call("--profile", "team", "sweeps", "--json")
    assert [row["sweep_id"] for row in json.loads(found.stdout)] == [MINE]
    monkeypatch.setenv("KD_SWEEP_TOKEN", served.service.tokens["otto"])
    found = call("--profile", "team", "sweeps", "--json")
    assert [row["sweep_name"] for row in json.loads(found.stdout)] == ["other"]


def test_a_profiles_token_goes_to_its_own_service_alone(
    served: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kd-sweep.toml").write_text(
        '[profiles.team]\nserver = "https://team.example.org"\ntoken_file = "token"\n'
    )
    (tmp_path / "token").write_text(served.service.tokens["anna"])
    refused = call("--profile", "team", "--server", served.address, "sweeps")
    assert (refused.exit_code, "must hold your token of" in refused.stderr) == (2, True)


def test_an_empty_address_does_not_mean_this_machine() -> None:
    for command in (("sweeps",), ("delete", "latest", "--yes")):
        refused = call("--server", "", *command)
        assert (refused.exit_code, "but got nothing" in refused.stderr) == (2, True)


def test_a_password_that_is_kept_for_the_host_is_not_sent_instead(
    served: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login root password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert [one.sweep_id for one in record.list_sweeps(served.to("anna"))] == [MINE]


# -- what breaks in between


def passed_on(served: Listening, *, is_heard: bool) -> Answer:
    """Hands the request to the service; its answer comes back only if that is heard."""

    def answer(handler: Handler) -> None:
        headers = {name: value for name, value in handler.headers.items() if name != "Host"}
        url = f"{served.address}{handler.path}"
        said = requests.request(handler.command, url, headers=headers, data=handler.body())
        if is_heard:
            handler.say(
                said.status_code, {"Content-Type": said.headers["Content-Type"]}, said.content
            )
        handler.close_connection = True

    return answer


def away(handler: Handler) -> None:
    handler.body()
    handler.say(502, {"Content-Type": "text/html"})


def test_a_submit_whose_answer_is_lost_is_one_sweep(tmp_path: Path) -> None:
    with service(tmp_path) as made, listening(made) as served:
        plan = plan_sweep("demo", served.to("anna"))
        lost, heard = passed_on(served, is_heard=False), passed_on(served, is_heard=True)
        with scripted(lost, away, heard) as between:
            job = submit_sweep(
                plan, replace(served.to("anna"), address=between.address), again=True
            )
        known = made.hosted.launches.all()
        assert [(one.sweep_id, one.state) for one in known] == [(job.sweep_id, LaunchState.WAITING)]
        assert len({one.headers["Idempotency-Key"] for one in between.seen}) == 1
        assert len(between.seen) == 3
        submit_sweep(plan, served.to("anna"), again=True)
        assert len(made.hosted.launches.all()) == 2


def test_a_stop_whose_answer_is_lost_is_not_repeated(served: Listening) -> None:
    with scripted(passed_on(served, is_heard=False)) as between:
        with pytest.raises(JobError, match="must answer, but got: "):
            follow.stop_sweep(MINE, replace(served.to("anna"), address=between.address))
        assert len(between.seen) == 1


FIRST, SECOND, LAST = Notice("one"), Notice("two"), Notice("three")


def chunks(*texts: str, is_whole: bool) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for text in texts:
            data = text.encode()
            handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        if is_whole:
            handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = True

    return answer


def event(said: DriverEvent, place: str = "") -> str:
    return (f"id: {place}\n" if place else "") + f"data: {to_line(said)}\n\n"


def plan_of(handler: Handler) -> None:
    handler.say(200, {"Content-Type": MEDIA_TYPE}, pack(PLAN))


def status_of(handler: Handler) -> None:
    done = {"sweep_id": MINE, "state": "completed", "driver": None}
    handler.say(200, {"Content-Type": MEDIA_TYPE}, json.dumps(done).encode())


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_watch_goes_on_where_the_service_left_it(tmp_path: Path, is_whole: bool) -> None:
    # What has no place yet when the line breaks comes again, and must not be shown twice.
    first = chunks("retry: 2000\n\n", event(FIRST, "7"), event(SECOND), is_whole=is_whole)
    then = chunks(": still here\n\n", event(SECOND), event(LAST, "9"), is_whole=True)
    end = chunks("event: end\nid: 9\ndata: {}\n\n", is_whole=True)
    events: list[Any] = []
    with scripted(plan_of, first, away, away, away, away, then, end, status_of) as server:
        place = Server(server.address, "secret-token", Workspace(tmp_path))
        status = follow.watch_sweep(MINE, place, on_event=events.append)
        asked = [one.headers.get("Last-Event-ID") for one in server.seen]
    gone = Notice(f"{place.address} does not answer; this goes on once it is back")
    assert events == [SweepBegins(PLAN), FIRST, gone, SECOND, LAST]
    assert asked == [None, None, "7", "7", "7", "7", "7", "9", None]
    assert status.state == "completed"


def test_what_ends_a_stream_early_is_said(tmp_path: Path) -> None:
    problem = 'event: problem\ndata: {"detail": "sweep x: its log must be there."}\n\n'
    with scripted(chunks(problem, is_whole=True)) as server:
        place = Server(server.address, "secret-token", Workspace(tmp_path))
        with pytest.raises(JobError, match="sweep x: its log must be there"):
            list(follow.read_logs("x", place, follow=True))


def test_a_service_that_is_silent_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "SILENT_S", 0.2)

    def silent(handler: Handler) -> None:
        threading.Event().wait(1.0)
        handler.close_connection = True

    with scripted(silent) as server:
        place = Server(server.address, "secret-token", Workspace(tmp_path))
        with pytest.raises(JobError, match="must answer, but got: nothing in time"):
            list(follow.read_logs("x", place, follow=True))
