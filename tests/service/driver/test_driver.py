"""Whole sweeps on a local Ray: faults inside them, a killed driver, a stopped one."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import make_sweep_plan
from sweep_process import SweepProcess

from service.plan.places import sweep_folder
from service.record import tags
from service.search.study_trials import read_trials
from service.slots.leftovers import temporary_folder
from service.states import TrialState

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FAULTY: dict[str, Any] = {
    "trials": 10,
    "early_stopping": {"kind": "none"},
    "resources": {"slots": 2},
}
FAULTS = {"killed": [1], "errors": [2], "nan_trials": [3], "out_of_memory": [4]}
LONG: dict[str, Any] = {"name": "long", "trials": 10, "training": {"steps": 8}}


def records(home: Path, document: dict[str, Any]) -> dict[int, Any]:
    """The study's trials by number."""
    plan = make_sweep_plan(**document)
    journal = str(sweep_folder(plan, home) / "study.journal")
    return {record.number: record for record in read_trials(journal, plan.sweep_id)}


def runs(home: Path, sweep_id: str) -> dict[int, Any]:
    """MLflow's runs of the sweep by trial, its own under -1."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("kd-sweep")
    assert experiment is not None
    found = client.search_runs(
        [experiment.experiment_id], f"tags.`{tags.SWEEP_ID}` = '{sweep_id}'", max_results=1000
    )
    numbers = [int(run.data.tags.get(tags.TRIAL, -1)) for run in found]
    assert len(set(numbers)) == len(numbers), "one run a trial"
    return dict(zip(numbers, found, strict=True))


def finished(home: Path, document: dict[str, Any], trial: int) -> list[str]:
    """The attempts of a fake trial that came to their end."""
    folder = sweep_folder(make_sweep_plan(**document), home) / "trials" / str(trial)
    path = folder / "finished"
    return path.read_text().split() if path.exists() else []


def processes_of(home: Path, document: dict[str, Any]) -> list[str]:
    """Command lines of processes that belong to the sweep's Ray."""
    folder = str(temporary_folder(sweep_folder(make_sweep_plan(**document), home)))
    return [command for command, _ in processes().values() if folder in command]


def slots_start(sweep: SweepProcess) -> bool:
    """Whether the sweep's Ray, and not another one of this machine, has begun to start slots. Its
    workers show a title in place of their command line, and were forked by a child of the
    driver."""
    found = processes()
    return any(
        title.startswith("ray::TrainController")
        and found.get(parent, ("", 0))[1] == sweep.process.pid
        for title, parent in found.values()
    )


def processes() -> dict[int, tuple[str, int]]:
    """Command line and parent of each process by its id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            state = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found[int(folder.name)] = command, int(state[1])
    return found


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SweepProcess]:
    sweep = SweepProcess(tmp_path_factory.mktemp("faulty"), document=FAULTY, faults=FAULTS)
    assert sweep.wait() == 0, sweep.output()
    yield sweep
    sweep.close()


def test_a_sweep_with_faults_ends_with_every_trial_in_its_state(faulty: SweepProcess) -> None:
    states = {number: record.state for number, record in records(faulty.home, FAULTY).items()}
    assert states.pop(2) is TrialState.FAILED
    assert states.pop(3) is TrialState.DIVERGED
    assert states == dict.fromkeys([0, 1, 4, 5, 6, 7, 8, 9], TrialState.COMPLETED)
    assert faulty.events("SweepEnded")[0]["summary"]["counts"] == {
        "completed": 8,
        "failed": 1,
        "diverged": 1,
    }


def test_a_killed_worker_and_a_full_memory_cost_one_attempt(faulty: SweepProcess) -> None:
    assert finished(faulty.home, FAULTY, 1) == ["1"]
    assert finished(faulty.home, FAULTY, 4) == ["1"]
    assert finished(faulty.home, FAULTY, 0) == ["0"]
    notices = [event["text"] for event in faulty.events("Notice")]
    (full,) = [text for text in notices if "out of memory" in text]
    assert "batch_size=32" in full and "lower batch_size" in full


def test_mlflow_has_the_final_states_and_one_run_a_trial(faulty: SweepProcess) -> None:
    sweep_id = make_sweep_plan(**FAULTY).sweep_id
    found = runs(faulty.home, sweep_id)
    statuses = {number: run.info.status for number, run in found.items()}
    assert statuses == dict.fromkeys(range(-1, 10), "FINISHED") | {2: "FAILED", 3: "FAILED"}
    assert found[0].data.metrics["train/loss"] == 0.25
    objective = records(faulty.home, FAULTY)[0].objective
    assert math.isclose(found[0].data.metrics["eval/rouge_l"], objective)


def test_nothing_of_the_sweep_is_left_running(faulty: SweepProcess) -> None:
    assert processes_of(faulty.home, FAULTY) == []
    assert "Traceback" not in faulty.output()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], SweepProcess]]:
    """Starts another driver of the long sweep, by a name for its events."""
    sweeps: list[SweepProcess] = []

    def begin(name: str) -> SweepProcess:
        sweeps.append(SweepProcess(tmp_path, name, document=LONG, step_s=0.25))
        return sweeps[-1]

    yield begin
    for sweep in sweeps:
        sweep.close()


def test_drivers_that_are_killed_or_stopped_lose_nothing(
    tmp_path: Path, start: Callable[[str], SweepProcess]
) -> None:
    """Four drivers of one sweep after three that saw no trial end: killed, stopped, stopped in
    a hurry, and left alone."""
    for seconds in (4, 9):
        early = start(f"killed-after-{seconds}")
        time.sleep(seconds)
        early.process.send_signal(signal.SIGKILL)
        early.wait()
    early = start("stopped-while-slots-start")
    early.wait_for(lambda: slots_start(early))
    stop(early, tmp_path)
    killed = start("killed")
    in_the_middle(killed)
    killed.process.send_signal(signal.SIGKILL)
    killed.wait()
    stopped = start("stopped")
    in_the_middle(stopped)
    stop(stopped, tmp_path)
    taken_up = {event["trial"]: event["attempt"] for event in stopped.events("TrialStarted")}
    assert 1 in taken_up.values(), "what ran is taken up under its number"
    assert nothing_runs(tmp_path)
    hurried = start("hurried")
    stop_in_a_hurry(hurried, tmp_path)
    last = start("last")
    assert last.wait() == 0, last.output()

    ended = {event["trial"] for event in killed.events("TrialEnded")}
    for driver in (stopped, hurried, last):
        started = {event["trial"] for event in driver.events("TrialStarted")}
        assert not ended & started, "what is finished is never run again"
        ended |= {event["trial"] for event in driver.events("TrialEnded") if event["objective"]}
    completed = [
        number
        for number, record in records(tmp_path, LONG).items()
        if record.state is TrialState.COMPLETED
    ]
    assert len(completed) == LONG["trials"]
    assert all(len(finished(tmp_path, LONG, number)) == 1 for number in completed)
    assert nothing_runs(tmp_path)


def in_the_middle(sweep: SweepProcess) -> None:
    """Returns when a trial has ended and others are under way."""
    sweep.wait_for(lambda: len(sweep.events("TrialEnded")) >= 1)
    time.sleep(0.5)


def stop(sweep: SweepProcess, home: Path) -> None:
    """Presses Ctrl-C once: everything leaves in order."""
    began = time.monotonic()
    sweep.process.send_signal(signal.SIGINT)
    assert sweep.wait(60) == 0, sweep.output()
    assert time.monotonic() - began < 30
    assert sweep.events("SweepEnded")[0]["summary"]["state"] == "cancelled"
    assert processes_of(home, LONG) == []


def stop_in_a_hurry(sweep: SweepProcess, home: Path) -> None:
    """Presses Ctrl-C twice: the driver ends at once, and a worker once its Ray is gone."""
    in_the_middle(sweep)
    for _ in range(2):
        sweep.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    assert sweep.wait(60) != 0
    end = time.monotonic() + 30
    while processes_of(home, LONG) and time.monotonic() < end:
        time.sleep(0.5)
    assert processes_of(home, LONG) == []


def nothing_runs(home: Path) -> bool:
    """Whether MLflow shows no run of the sweep as running."""
    sweep_id = make_sweep_plan(**LONG).sweep_id
    return "RUNNING" not in {run.info.status for run in runs(home, sweep_id).values()}
