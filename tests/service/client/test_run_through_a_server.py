"""`run` through a service: handed over, followed to its end, stopped by Ctrl-C, with the exit codes
that it has where the sweeps are; what `best` exports; and hints that can be copied."""

import fcntl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from api_support import OTHERS, PLAN, ROWS
from cli_support import call
from client_support import Handler, Listening, here, rows, scripted, there, waiting
from records_support import record_sweep
from typer.testing import Result

import kd_sweep
from service.actions import promote
from service.actions.launch import Launch
from service.client import sending
from service.driver.lock import sweep_lock
from service.driver.log import driver_log
from service.events import Notice, TrialStarted
from service.home import sweeps_folder
from service.plan.places import plan_file
from service.record.registry import Version
from trainers.trial.trial_file import TrialFile

MINE = PLAN.sweep_id


def launched(server: Listening) -> Launch:
    """The one launch that waits, once it does."""
    end = time.monotonic() + 60
    while not waiting(server) and time.monotonic() < end:
        time.sleep(0.02)
    return server.service.hosted.launches.all()[-1]


def play(server: Listening, *, end: str = '{"exit_code": 0}', is_recorded: bool = True) -> None:
    """Does what the process of the sweep that waits would do."""
    launch, home = launched(server), server.here.home
    plan = launch.order().plan
    folder = sweeps_folder(home) / plan.sweep_id
    with (launch.folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (launch.folder / "begun").touch()
        if is_recorded:
            folder.mkdir(parents=True)
            plan_file(folder).write_text(plan.model_dump_json())
            with sweep_lock(folder), driver_log(folder) as write:
                write(TrialStarted(0, 0, None, {"tau": 1.0}))
                write(Notice("played"))
                record_sweep(server.here.tracking_uri, home, plan, ROWS)
        (launch.folder / "ended.json").write_text(end)


@contextmanager
def running(server: Listening, *arguments: str) -> Iterator[list[Result]]:
    """`run` as anna in a thread; its result is there at the end."""
    results: list[Result] = []

    def run() -> None:
        results.append(there(server, "run", *arguments, user="anna"))

    thread = threading.Thread(target=run)
    thread.start()
    yield results
    thread.join(60)
    assert not thread.is_alive()


def test_a_run_is_followed_to_its_end_and_found_again(fresh: Listening) -> None:
    with running(fresh, "sweep.yaml", "--json") as results:
        play(fresh)
    told = rows(results[0])
    assert "played" in results[0].stderr and "tau" in results[0].stderr
    assert (told["state"], told["done_before"]) == ("completed", False)
    assert told["best"] == rows(here(fresh, "best", "--sweep", told["sweep_id"], "--json"))
    assert told["report"] == f"{fresh.address}/sweeps/{told['sweep_id']}/report"
    again = there(fresh, "run", "sweep.yaml", user="anna")
    assert (again.exit_code, len(fresh.service.hosted.launches.all())) == (0, 1)
    assert f"kd-sweep --server {fresh.address} run … --again runs it afresh" in again.stdout
    assert f"kd-sweep --server {fresh.address} trials {told['sweep_id']}" in again.stdout


def test_a_run_whose_driver_fails_there_says_why(fresh: Listening) -> None:
    with running(fresh, "sweep.yaml") as results:
        play(fresh, end='{"exit_code": 3, "message": "slots: none came"}', is_recorded=False)
    assert (results[0].exit_code, "slots: none came" in results[0].stderr) == (4, True)


def test_a_run_is_stopped_and_goes_on_when_it_is_run_again(fresh: Listening) -> None:
    stop, server = threading.Event(), fresh.to("anna")
    plan = kd_sweep.plan("sweep.yaml", workspace=server)
    timer = threading.Thread(target=lambda: (launched(fresh), stop.set()))
    timer.start()
    result = kd_sweep.run(plan, stop=stop, display=False, workspace=server)
    timer.join()
    assert (result.exit_code, result.state, result.best.rows, result.report) == (
        *(130, "cancelled", ()),
        None,
    )
    assert waiting(fresh) == []
    with running(fresh, "sweep.yaml", "--json") as results:
        play(fresh)
    assert rows(results[0])["sweep_id"] == result.sweep_id


def test_a_stop_that_does_not_arrive_is_said(
    fresh: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.actions import run_there
    from service.errors import JobError

    def lost(*given: Any) -> None:
        raise JobError("server: must answer, but got: nothing")

    monkeypatch.setattr(run_there, "stop_sweep", lost)
    stop, said = threading.Event(), threading.Event()

    def on_event(event: Any) -> None:
        if isinstance(event, Notice) and "it could not be stopped: server" in event.text:
            said.set()

    def play_once_said() -> None:
        launched(fresh)
        stop.set()
        said.wait(30)
        play(fresh)

    thread = threading.Thread(target=play_once_said)
    thread.start()
    result = kd_sweep.run(
        "sweep.yaml", stop=stop, on_event=on_event, display=False, workspace=fresh.to("anna")
    )
    thread.join()
    assert (result.exit_code, said.is_set()) == (0, True)


# -- what `best` has beside its table


def test_the_best_trials_file_is_written_whole_and_as_where_the_sweeps_are(
    fresh: Listening,
) -> None:
    for user in ("anna", "vera"):
        found = there(
            fresh, "best", "--sweep", MINE, "--export", f"{user}.json", "--json", user=user
        )
        assert found.exit_code == 0, found.output
    here(fresh, "best", "--sweep", MINE, "--export", "here.json")
    written = (fresh.here.folder / "here.json").read_bytes()
    assert TrialFile.model_validate_json(written).config.tau == 2.0
    assert [(fresh.here.folder / f"{one}.json").read_bytes() for one in ("anna", "vera")] == [
        *(written, written)
    ]
    again = there(fresh, "best", "--sweep", MINE, "--export", "here.json")
    assert (again.exit_code, "must be a new file" in again.stderr) == (3, True)
    assert (fresh.here.folder / "here.json").read_bytes() == written
    others = there(fresh, "best", "--sweep", OTHERS.sweep_id, "--export", "x.json", user="anna")
    assert (others.exit_code, (fresh.here.folder / "x.json").exists()) == (5, False)


def test_half_an_export_is_no_file(
    fresh: Listening, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sending.time, "sleep", lambda seconds: None)

    headers = {"Accept": sending.accepted()}

    def cut(handler: Handler) -> None:
        if not handler.path.endswith("/file"):
            told = fresh.service("anna", "GET", handler.path, headers=headers)
            handler.say(200, {"Content-Type": told.headers["Content-Type"]}, told.content)
            return
        handler.say(200, {"Content-Length": "1000", "Content-Type": sending.accepted()}, b"{")
        handler.close_connection = True

    monkeypatch.setenv("KD_SWEEP_TOKEN", "secret-token")
    with scripted(cut) as server:
        found = call("--server", server.address, "best", "--sweep", MINE, "--export", "cut.json")
    assert found.exit_code == 4, found.output
    assert not list(fresh.here.folder.glob("*cut.json*"))


def test_registered_students_are_those_of_the_sweeps_that_the_user_sees(
    fresh: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = {
        sweep: [row["run_id"] for row in rows(here(fresh, "trials", sweep, "--json"))]
        for sweep in (MINE, OTHERS.sweep_id)
    }
    known = [Version("dolly", "1", ("champion",), ids[MINE][0])]
    known += [Version("secret", "7", (), ids[OTHERS.sweep_id][0])]
    monkeypatch.setattr(promote, "versions", lambda uri: known)
    seen = there(fresh, "best", "--registered", user="vera")
    assert (seen.exit_code, "dolly version 1 @champion" in seen.stdout) == (0, True), seen.output
    assert "secret" not in seen.stdout
    expected = here(fresh, "best", "--registered", "--json")
    assert there(fresh, "best", "--registered", "--json").stdout == expected.stdout
    assert "secret version 7" in expected.stdout


def test_the_best_of_all_are_those_that_the_user_sees(fresh: Listening) -> None:
    found = rows(there(fresh, "best", "--sweep", "all", "--json", user="anna"))
    assert {row["sweep_id"] for row in found} == {MINE}
    expected = rows(here(fresh, "best", "--sweep", "all", "--json"))
    assert rows(there(fresh, "best", "--sweep", "all", "--json")) == expected


# -- hints


def test_hints_name_the_service_as_it_was_typed(
    fresh: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KD_SWEEP_TOKEN", fresh.service.tokens["anna"])
    sweep = rows(call("--server", fresh.address, "plan", "sweep.yaml", "--json"))["sweep_id"]
    submit, again = ("submit", "sweep.yaml", "--yes"), ("stop", sweep)
    typed = call("--server", fresh.address, *submit).stderr
    assert f"follow it: kd-sweep --server {fresh.address} watch {sweep}; " in typed
    assert f"stop it: kd-sweep --server {fresh.address} stop {sweep}\n" in typed
    stopped = call("--server", fresh.address, *again).stderr
    assert f"Go on with: kd-sweep --server {fresh.address} resume {sweep}\n" in stopped
    Path("kd-sweep.toml").write_text(f'[profiles.team]\nserver = "{fresh.address}"\n')
    assert f"kd-sweep --profile team watch {sweep}" in call("--profile", "team", *submit).stderr
    monkeypatch.setenv("KD_SWEEP_SERVER", fresh.address)
    assert f"follow it: kd-sweep watch {sweep}; " in call(*submit).stderr


def test_errors_hints_name_it_too_and_not_for_commands_that_it_does_not_offer(
    fresh: Listening,
) -> None:
    missing = there(fresh, "best", "--sweep", MINE, "--where", "tau>99", "--export", "x.json")
    assert f"kd-sweep --server {fresh.address} trials SWEEP shows" in missing.stderr
    assert "; kd-sweep export SWEEP/NUMBER" in missing.stderr
    no_token = there(fresh, "sweeps", user="kds_0_0")
    assert "kd-sweep tokens new USER makes one" in no_token.stderr
