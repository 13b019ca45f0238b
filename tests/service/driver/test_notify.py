"""Those who are told: a program, an address on this machine, and what is said where it fails."""

import json
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import make_sweep_plan
from notify_support import tell

from service.driver import driver, notify
from service.driver.news import Newsroom
from service.driver.notify import Notifier, run_command, tell_failure
from service.driver.place import Place
from service.errors import JobError
from service.events import DriverEvent, Notice, SweepEnded, SweepSummary, TrialEnded, TrialStarted
from service.states import TrialState

END = SweepEnded(SweepSummary("tiny", "run", "completed", {"completed": 1}, 0, 3.0, 9.0))
NEWS = Newsroom(make_sweep_plan()).failed("why")


def script(folder: Path, body: str, name: str = "tell.sh") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_a_program_gets_the_news_on_its_input_and_in_its_environment(tmp_path: Path) -> None:
    body = f'cat > {tmp_path}/json; echo "$KD_SWEEP_NEWS_STATE" > {tmp_path}/state; echo noise'
    assert tell({}, END, command=str(script(tmp_path, body))) == []
    assert (tmp_path / "state").read_text() == "completed\n"
    news = json.loads((tmp_path / "json").read_text())
    assert (news["event"], news["state"], news["trials"]) == (
        "ended",
        "completed",
        {"completed": 1},
    )


def test_a_program_that_fails_says_so_with_its_last_line(tmp_path: Path) -> None:
    path = str(script(tmp_path, "echo one >&2; echo no route >&2; exit 3"))
    assert run_command(path, NEWS) == "ended with 3: no route"
    path = str(tmp_path / "nothing")
    assert run_command(path, NEWS) == (
        "must be a program that can be run here, but got: No such file or directory"
    )


def test_a_program_that_takes_too_long_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "COMMAND_TIMEOUT_S", 0.5)
    path = str(script(tmp_path, f"(sleep 2; touch {tmp_path}/late) & sleep 60"))
    start = time.monotonic()
    assert run_command(path, NEWS) == "took longer than 0 s and was ended"
    assert time.monotonic() - start < 30
    time.sleep(2.5)
    assert not (tmp_path / "late").exists()


def test_the_end_is_told_in_place_of_older_news_that_wait(tmp_path: Path) -> None:
    slow = script(tmp_path, f'echo "$KD_SWEEP_NEWS_TITLE" >> {tmp_path}/titles; sleep 1')
    events: list[DriverEvent] = []
    for number in range(6):
        events += [
            TrialStarted(number, 0, None, {"tau": 1.0}),
            TrialEnded(number, TrialState.COMPLETED, 3.0 + number),
        ]
    assert tell({}, *events, END, command=str(slow)) == []
    titles = (tmp_path / "titles").read_text().splitlines()
    assert titles[-1].endswith(": completed")
    assert len(titles) <= 2


def test_a_sweep_that_raises_has_failed(tmp_path: Path) -> None:
    path = script(tmp_path, f'echo "$KD_SWEEP_NEWS_ERROR" > {tmp_path}/error')
    plan = make_sweep_plan(notify={"command": str(path)})
    with pytest.raises(OSError, match="no more disk"), Notifier(plan, print):
        raise OSError("no more disk")
    assert (tmp_path / "error").read_text() == "no more disk\n"
    tell_failure(plan, "its driver was ended by signal 9", print)
    assert (tmp_path / "error").read_text() == "its driver was ended by signal 9\n"


def test_nobody_is_told_where_nobody_is_named() -> None:
    before = threading.active_count()
    with Notifier(make_sweep_plan(), print) as notifier:
        notifier.take(END)
        assert threading.active_count() == before


def test_a_sweep_is_told_of_before_its_end_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_sweep_plan(notify={"command": str(script(tmp_path, "exit 7"))})
    seen: list[DriverEvent] = []

    def drive(place: Place, plan: Any, *, on_event: Any, stop: threading.Event) -> SweepSummary:
        if stop.is_set():
            raise JobError("no slot can start its workers")
        return END.summary

    # Neither Ray nor MLflow: what is between a sweep's lock and its stages.
    monkeypatch.setattr(driver, "ray_session", lambda *place, **rest: nullcontext())
    monkeypatch.setitem(sys.modules, "service.driver.stages", SimpleNamespace(drive=drive))
    place, stop = Place(tmp_path, "sqlite:///nothing"), threading.Event()
    assert driver.run_at(place, plan, on_event=seen.append, stop=stop) == END.summary
    *_, notice, end = seen
    assert isinstance(notice, Notice)
    assert notice.text.endswith("tell.sh: ended with 7. The sweep goes on all the same.")
    assert end == END
    stop.set()
    with pytest.raises(JobError, match="no slot can start"):
        driver.run_at(place, plan, on_event=seen.append, stop=stop)
    assert seen[-1] == notice
