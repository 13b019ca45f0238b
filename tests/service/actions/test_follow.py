"""Sweeps that were started before, followed and stopped: on a cluster that only remembers, and
here, where a lock and a log stand for their drivers."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import MemoryClient, make_sweep_plan
from records_support import make_store, plan_of, record_sweep

from service.actions import follow
from service.actions.cluster import submit_sweep
from service.actions.follow import (
    list_statuses,
    open_log,
    read_logs,
    stop_sweep,
    stop_trial,
    sweep_status,
    watch_sweep,
)
from service.actions.run_result import RunEvent, SweepBegins
from service.actions.status import SweepStatus, count_trials
from service.driver.lock import sweep_lock
from service.driver.log import driver_log
from service.driver.requests import asked_to_stop
from service.errors import JobError, TrackingError
from service.events import (
    DriverEvent,
    Notice,
    SweepEnded,
    SweepGoesOn,
    SweepSummary,
    TrialEnded,
    TrialStarted,
    to_line,
)
from service.plan.places import end_marker, plan_file, sweep_folder
from service.record.records import SweepRecord
from service.record.runs import Runs
from service.states import TrialState
from service.workspace import Cluster, Workspace

PLAN = make_sweep_plan()
EVENTS: list[DriverEvent] = [
    TrialStarted(0, 0, None, {"tau": 1.0}),
    TrialStarted(1, 0, None, {"tau": 2.0}),
    TrialEnded(0, TrialState.COMPLETED, 3.0),
    Notice("trial 1 waits for a slot"),
]


@pytest.fixture
def there(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, cluster=Cluster("http://head:8265"))


# -- on a cluster


def test_trials_are_counted_from_the_log(client: MemoryClient, there: Workspace) -> None:
    submit_sweep(PLAN, there)
    client.log = ["a line of Ray's", *map(to_line, EVENTS)]
    found = sweep_status("latest", there)
    assert found.to_json()["trials"] == {"completed": 1, "running": 1}
    assert (found.state, found.driver) == (TrialState.RUNNING, PLAN.sweep_id)
    assert list_statuses(there) == [replace(found, trials={})]


def test_a_sweep_that_goes_on_is_counted_on() -> None:
    before = SweepGoesOn({"completed": 5, "failed": 1}, 2, 9.0)
    assert count_trials(map(to_line, [before, *EVENTS])) == {
        "completed": 6,
        "failed": 1,
        "running": 1,
    }


def test_the_last_event_counts_for_all_of_them() -> None:
    summary = SweepSummary("tiny", "run", "completed", {"completed": 7}, 0, 1.0, 1.0)
    assert count_trials(map(to_line, [*EVENTS, SweepEnded(summary)])) == {"completed": 7}


def test_lines_of_one_trial_are_told_from_the_others(
    client: MemoryClient, there: Workspace
) -> None:
    submit_sweep(PLAN, there)
    client.log = list(map(to_line, EVENTS))
    assert list(read_logs("latest", there)) == client.log
    assert list(read_logs("latest", there, trial=1)) == [client.log[1], client.log[3]]


def test_watching_begins_with_the_plan_and_ends_with_why_the_job_failed(
    client: MemoryClient, there: Workspace
) -> None:
    submit_sweep(PLAN, there)
    client.log = list(map(to_line, EVENTS))
    client.infos[0].status, client.infos[0].message = "FAILED", "the head was lost"
    events: list[RunEvent] = []
    with pytest.raises(JobError, match=f"job {PLAN.sweep_id} failed: the head was lost"):
        watch_sweep("latest", there, on_event=events.append)
    assert events == [SweepBegins(PLAN), *EVENTS]


def test_a_log_there_is_read_part_after_part(client: MemoryClient, there: Workspace) -> None:
    submit_sweep(PLAN, there)
    client.log = ["one", "two"]
    log = open_log("latest", there)
    part = log.read()
    assert (part.lines, log.read(part.place).lines) == (["one", "two"], [])
    client.log.append("three")
    assert log.read(part.place).lines == ["three"]
    assert log.is_driven()
    client.infos[0].status = "SUCCEEDED"
    assert not log.is_driven()


def test_a_stop_there_is_seen_as_one(client: MemoryClient, there: Workspace) -> None:
    submit_sweep(PLAN, there)
    client.infos[0].message = to_line(EVENTS[0])
    client.log = list(map(to_line, EVENTS[2:]))
    stopped = stop_sweep("latest", there)
    counts = {"completed": 1}
    assert stopped == SweepStatus(PLAN.sweep_id, TrialState.CANCELLED, PLAN.sweep_id, counts)
    assert watch_sweep("latest", there).state is TrialState.CANCELLED


def test_one_trial_is_stopped_through_its_driver(client: MemoryClient, there: Workspace) -> None:
    submit_sweep(PLAN, there)
    stop_trial("latest", there, trial=7)
    control = f"python -m service control {PLAN.sweep_id} stop-trial 7"
    assert client.infos[-1].entrypoint == control


# -- here


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    """A workspace whose record has one finished sweep of two trials."""
    rows = [({"tau": 1.0}, {"rouge_l": 1.0}), ({"tau": 2.0}, {"rouge_l": 2.0})]
    record_sweep(make_store(tmp_path), tmp_path, plan_of(), rows)
    return Workspace(tmp_path)


SWEEP = plan_of().sweep_id


def folder_of(workspace: Workspace) -> Path:
    return sweep_folder(plan_of(), workspace.home)


def recorded_as(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the record say so of every sweep."""
    sweeps = Runs.sweeps

    def changed(self: Runs) -> list[SweepRecord]:
        return [replace(one, state=state) for one in sweeps(self)]

    monkeypatch.setattr(Runs, "sweeps", changed)


@contextmanager
def driver(workspace: Workspace) -> Iterator[threading.Event]:
    """What others see of a driver, which ends when it is asked to, and otherwise with the context;
    the event is set then."""
    folder, over = folder_of(workspace), threading.Event()
    up = threading.Event()

    def run() -> None:
        with sweep_lock(folder), driver_log(folder) as write:
            plan_file(folder).write_text(plan_of().model_dump_json())
            for event in EVENTS:
                write(event)
            up.set()
            while not over.wait(0.01):
                for request, trial in asked_to_stop(folder).items():
                    request.unlink()
                    if trial is None:
                        end_marker(folder).write_text("cancelled")
                        over.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert up.wait(10)
    try:
        yield over
    finally:
        over.set()
        thread.join()


def test_a_sweep_of_this_machine_has_a_status(here: Workspace) -> None:
    counts = {"completed": 2}
    assert sweep_status("toy", here) == SweepStatus(SWEEP, TrialState.COMPLETED, None, counts)
    with driver(here):
        status = sweep_status("latest", here)
        process = f"process {os.getpid()} on {socket.gethostname()}"
        assert status == SweepStatus(SWEEP, TrialState.RUNNING, process, counts)
        assert list_statuses(here) == [replace(status, trials={})]
    with pytest.raises(TrackingError, match="'nosuch': must be an id"):
        sweep_status("nosuch", here)


def test_a_driver_that_was_killed_is_said_to_be_gone(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded_as("running", monkeypatch)
    assert sweep_status("toy", here).state is TrialState.RUNNING, "its folder is elsewhere"
    with driver(here):
        pass
    found = sweep_status("toy", here)
    assert found.state is TrialState.FAILED
    assert found.message == f"Its driver is gone. Go on with: kd-sweep resume {SWEEP}"
    with pytest.raises(JobError, match="nowhere: the sweep is failed. Its driver is gone. Go on"):
        stop_sweep("toy", here)
    end_marker(folder_of(here)).write_text("completed")
    assert sweep_status("toy", here).state is TrialState.COMPLETED, "the record only waits"


def test_a_sweep_that_only_begins_is_known_before_it_is_recorded(tmp_path: Path) -> None:
    make_store(tmp_path)
    workspace = Workspace(tmp_path)
    with pytest.raises(TrackingError, match="no sweep is recorded"):
        sweep_status("latest", workspace)
    with driver(workspace) as over:
        for reference in (SWEEP, SWEEP[:5], "toy", "latest"):
            found = sweep_status(reference, workspace)
            assert (found.sweep_id, found.state) == (SWEEP, TrialState.RUNNING)
        assert list_statuses(workspace) == [found]
        assert next(iter(read_logs("latest", workspace))) == to_line(EVENTS[0])
        with pytest.raises(JobError, match=f"Its driver is gone.*resume {SWEEP}"):
            watch_sweep("toy", workspace, on_event=lambda event: over.set())


def test_the_error_that_ended_a_driver_is_its_message(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded_as("failed", monkeypatch)
    folder = folder_of(here)
    with pytest.raises(JobError, match="cursed"), sweep_lock(folder), driver_log(folder):
        raise JobError("no slot can start its workers: it is cursed.")
    with pytest.raises(JobError, match="cursed. Go on with: kd-sweep resume"):
        watch_sweep("latest", here)


def test_the_log_of_this_machine_is_read_and_followed(here: Workspace) -> None:
    with pytest.raises(JobError, match="log must be in .*older version wrote none"):
        list(read_logs("toy", here))
    with driver(here) as over:
        assert list(read_logs("toy", here)) == list(map(to_line, EVENTS))
        assert list(read_logs("toy", here, trial=1)) == [to_line(EVENTS[1]), to_line(EVENTS[3])]
        followed = read_logs("toy", here, follow=True)
        assert [next(followed) for _ in EVENTS] == list(map(to_line, EVENTS))
        over.set()
        assert list(followed) == []


def test_the_events_of_this_machine_are_watched_to_the_end(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[RunEvent] = []
    with driver(here) as over:

        def on_event(event: RunEvent) -> None:
            events.append(event)
            if event == EVENTS[-1]:
                over.set()

        ended = watch_sweep("latest", here, on_event=on_event)
    assert events == [SweepBegins(plan_of()), *EVENTS]
    assert ended.state is TrialState.COMPLETED


def test_a_sweep_of_this_machine_is_stopped_and_waited_for(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded_as("running", monkeypatch)
    with driver(here) as over:
        stopped = stop_sweep("toy", here)
        assert over.is_set()
    assert (stopped.state, stopped.driver) == (TrialState.CANCELLED, None)
    with pytest.raises(JobError, match=f"sweep {SWEEP}: its driver must run .*runs nowhere"):
        stop_sweep("toy", here)


def test_a_driver_that_does_not_end_is_named(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "STOP_TIMEOUT_S", 0.0)
    with sweep_lock(folder_of(here)):
        with pytest.raises(JobError, match=f"process {os.getpid()} on .* still runs"):
            stop_sweep("toy", here)


def test_a_trial_of_this_machine_is_cancelled_if_it_runs(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with driver(here) as over:
        with pytest.raises(JobError, match=f"{SWEEP}: trial 1 must be running to be cancelled"):
            stop_trial("toy", here, trial=1)
        trials = Runs.trials
        monkeypatch.setattr(
            Runs,
            "trials",
            lambda self, sweep: [replace(t, state=TrialState.RUNNING) for t in trials(self, sweep)],
        )
        stop_trial("toy", here, trial=1)
        assert asked_to_stop(folder_of(here)) == {} and not over.is_set()
    with pytest.raises(JobError, match="runs nowhere"):
        stop_trial("toy", here, trial=1)
