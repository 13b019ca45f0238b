"""Sweeps in processes of their own: in line, each once, whatever is killed and when. A short
script stands for the process of a sweep."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from fakes import make_sweep_plan

from service.accounts.line import Asked, Owner, Priority, Quota, Quotas
from service.actions import launch as launching
from service.actions.launch import Launch, Launches, LaunchState, run_launch
from service.cluster.job import JobOrder
from service.errors import JobError
from service.workspace import Workspace

PLAN = make_sweep_plan()
# As `run_launch` does: it has begun, waits for a word, and says how it ended.
SCRIPT = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with (folder / "starts").open("a") as file: file.write("x")
(folder / "begun").touch()
while not (folder / "go").exists(): time.sleep(0.01)
(folder / "ended.json").write_text('{"exit_code": 0, "message": ""}')
"""
SAYS_WHY = 'import sys; sys.exit("no module is called so")'


@pytest.fixture
def started() -> Iterator[list[Launches]]:
    """Whoever started processes, which end with the test."""
    made: list[Launches] = []
    yield made
    for one in made:
        for child in one._children.values():
            child.kill()
            child.wait()


def launches(
    home: Path,
    started: list[Launches],
    script: str = SCRIPT,
    at_once: int = 1,
    quotas: Quotas = MappingProxyType({}),
) -> Launches:
    command = (sys.executable, "-S", "-c", script)
    made = Launches(Workspace(home), at_once=at_once, command=command, quotas=lambda: quotas)
    started.append(made)
    return made


def order(name: str = "a") -> JobOrder:
    return JobOrder(plan=PLAN.model_copy(update={"sweep_id": f"tiny-{name}"}))


def wait_for(line: Launches, sweep_id: str, file: str) -> Launch:
    end = time.monotonic() + 60
    while True:
        found = line.newest(sweep_id)
        assert found is not None
        if (found.folder / file).exists() or time.monotonic() > end:
            return found
        time.sleep(0.01)


def ended(line: Launches, sweep_id: str) -> Launch:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        line.begin_next()
        found = line.newest(sweep_id)
        if found is not None and found.state is LaunchState.ENDED:
            return found
        time.sleep(0.01)
    raise AssertionError("it did not end")


def test_the_next_begins_when_one_has_ended(tmp_path: Path, started: list[Launches]) -> None:
    line = launches(tmp_path, started)
    for name in ("a", "b", "c"):
        line.put(order(name))
    assert [one.sweep_id for one in line.begin_next()] == ["tiny-a"]
    assert line.begin_next() == []
    states = [one.state for one in line.all()]
    assert states == [LaunchState.RUNNING, LaunchState.WAITING, LaunchState.WAITING]
    assert [(one.entry.name[-6:], one.num_before) for one in line.line()] == [
        ("tiny-b", 1),
        ("tiny-c", 2),
    ]
    (wait_for(line, "tiny-a", "begun").folder / "go").touch()
    end = ended(line, "tiny-a").end
    assert end is not None and end.exit_code == 0
    line.begin_next()
    assert [one.state for one in line.all()][1:] == [LaunchState.RUNNING, LaunchState.WAITING]


def test_a_higher_priority_begins_first_and_what_a_quota_holds_back_lets_others_pass(
    tmp_path: Path, started: list[Launches]
) -> None:
    quotas = {(Owner.USER, "anna"): Quota(trials_at_once=1)}
    line = launches(tmp_path, started, at_once=2, quotas=quotas)
    anna, otto = Asked("anna", "vision"), Asked("otto", "text", Priority.LOW)
    for name, asked in (("a", anna), ("b", otto), ("c", anna)):
        line.put(order(name), asked=asked)
    line.put(order("d"), asked=replace(anna, priority=Priority.HIGH))
    assert [one.sweep_id for one in line.begin_next()] == ["tiny-d", "tiny-b"]
    held = "until 1 fewer of the trials of user anna train: at most 1 at once"
    assert [(one.entry.name[-6:], one.held) for one in line.line()] == [
        ("tiny-a", held),
        ("tiny-c", held),
    ]
    # Another service finds the same line in the home folder.
    assert launches(tmp_path, started, at_once=2, quotas=quotas).line() == line.line()
    (wait_for(line, "tiny-d", "begun").folder / "go").touch()
    assert ended(line, "tiny-d").entry.ended_at is not None
    line.begin_next()
    states = {one.sweep_id: one.state for one in line.all()}
    assert (states["tiny-a"], states["tiny-c"]) == (LaunchState.RUNNING, LaunchState.WAITING)


def test_what_an_earlier_version_put_in_line_is_taken_up(
    tmp_path: Path, started: list[Launches]
) -> None:
    line = launches(tmp_path, started)
    line.put(order("a"))
    (line.all()[0].folder / "asked.json").unlink()
    assert line.all()[0].entry.asked == Asked()
    assert [one.sweep_id for one in line.begin_next()] == ["tiny-a"]


def test_a_name_is_launched_once(tmp_path: Path, started: list[Launches]) -> None:
    line = launches(tmp_path, started)
    for _ in range(2):
        line.put(order(), "1-tiny-a")
    assert [one.folder.name for one in line.all()] == ["1-tiny-a"]
    assert line.has("1-tiny-a") and not line.has("2-tiny-a")


def test_another_service_sees_what_runs_and_starts_it_no_second_time(
    tmp_path: Path, started: list[Launches]
) -> None:
    first, second = (launches(tmp_path, started) for _ in range(2))
    first.put(order())
    first.begin_next()
    assert second.begin_next() == []
    running = wait_for(second, "tiny-a", "begun")
    assert running.state is LaunchState.RUNNING
    (running.folder / "go").touch()
    assert ended(second, "tiny-a").state is LaunchState.ENDED
    assert (running.folder / "starts").read_text() == "x"


def test_one_whose_service_was_killed_before_it_began_waits_for_the_next(
    tmp_path: Path, started: list[Launches]
) -> None:
    line = launches(tmp_path, started)
    line.put(order())
    child = os.fork()
    if child == 0:  # holds the lock, as one that is about to begin it, and is killed
        with (tmp_path / "launches" / line.all()[0].folder.name / "lock").open("a") as file:
            launching.is_free(file)
            time.sleep(60)
        os._exit(0)
    end = time.monotonic() + 30
    while line.all()[0].state is not LaunchState.RUNNING and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert line.all()[0].state is LaunchState.WAITING
    assert len(line.begin_next()) == 1


def test_a_killed_process_has_ended_and_is_not_begun_again(
    tmp_path: Path, started: list[Launches]
) -> None:
    line = launches(tmp_path, started)
    line.put(order())
    line.begin_next()
    folder = wait_for(line, "tiny-a", "begun").folder
    child = line._children[folder]
    child.kill()
    child.wait()
    other = launches(tmp_path, started)  # a service that never saw it start
    assert other.begin_next() == []
    end = other.all()[0].end
    assert end is not None and end.message == "its process was ended from outside"
    assert ended(line, "tiny-a").end == end.model_copy(update={"exit_code": -signal.SIGKILL})


def test_a_process_that_could_not_begin_says_why_and_is_not_begun_for_ever(
    tmp_path: Path, started: list[Launches]
) -> None:
    line = launches(tmp_path, started, SAYS_WHY)
    line.put(order())
    line.begin_next()
    end = ended(line, "tiny-a").end
    assert end is not None and (end.exit_code, end.message) == (1, "no module is called so")
    assert line.begin_next() == []


def test_who_waits_can_leave_the_line_and_who_runs_cannot(
    tmp_path: Path, started: list[Launches]
) -> None:
    line = launches(tmp_path, started)
    for name in ("a", "b"):
        line.put(order(name))
    line.begin_next()
    running, waiting = line.all()
    assert line.cancel(waiting) and not line.cancel(waiting)
    assert not line.cancel(running)
    assert line.all()[1].end == launching.LaunchEnd(exit_code=130)


def test_the_order_is_run_and_its_end_written_down(
    tmp_path: Path, started: list[Launches], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = launches(tmp_path, started)
    line.put(order())
    folder, seen = line.all()[0].folder, []

    def drive(plan: object, workspace: Workspace, **given: object) -> None:
        seen.append(plan)
        raise JobError("slots: one must start, but none did")

    monkeypatch.setattr(launching, "drive_sweep", drive)
    lock = os.open(folder / "lock", os.O_RDWR)
    assert run_launch(folder, lock, print) == 4
    os.close(lock)
    assert seen == [order().plan]
    end = line.all()[0].end
    assert end is not None and end.message == "slots: one must start, but none did"


def test_an_unreadable_end_is_named(tmp_path: Path, started: list[Launches]) -> None:
    line = launches(tmp_path, started)
    line.put(order())
    (line.all()[0].folder / "ended.json").write_text("{")
    with pytest.raises(JobError, match="ended.json: must say how a sweep's process ended"):
        line.all()
