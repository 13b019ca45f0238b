"""What a cluster does to a sweep: each test ends with the trials of an undisturbed run, once
each."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fakes import make_sweep_plan
from hand_cluster import HandCluster
from sweep_process import SweepProcess

from service.states import TrialState
from service.study_trials import read_trials
from service.wishes import sweep_folder

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
Start = Callable[..., SweepProcess]

NUM_TRIALS = 8
DRIVER_KILLS = 20
STEP_S = 0.4
RESOURCES = """
import json, os, ray
ray.init(address=os.environ["KD_ADDRESS"], logging_level="ERROR", log_to_driver=False)
from ray.util import placement_group_table
groups = [g["state"] for g in placement_group_table().values()]
total, free = ray.cluster_resources(), ray.available_resources()
print(json.dumps({"groups": groups, "total": total, "free": free}))
"""


@pytest.fixture
def cluster() -> Iterator[HandCluster]:
    made = HandCluster()
    try:
        made.start(nodes=2)
        yield made
    finally:
        made.stop()


@pytest.fixture
def start(cluster: HandCluster, tmp_path: Path) -> Iterator[Start]:
    """Starts a driver of the sweep `name` on the cluster."""
    sweeps: list[SweepProcess] = []

    def begin(name: str, **order: Any) -> SweepProcess:
        order = {"address": cluster.address, "step_s": STEP_S, "document": document()} | order
        sweeps.append(SweepProcess(tmp_path, name, cluster.environment, **order))
        return sweeps[-1]

    yield begin
    for sweep in sweeps:
        sweep.close()


def document(**changes: Any) -> dict[str, Any]:
    return {"name": "faults", "trials": NUM_TRIALS, "training": {"steps": 8}} | changes


def assert_whole(home: Path, cluster: HandCluster, **changes: Any) -> None:
    """Every trial is completed, no run is left RUNNING, no resource is held."""
    from mlflow import MlflowClient

    plan = make_sweep_plan(**document(**changes))
    folder = sweep_folder(plan, home)
    records = read_trials(str(folder / "study.journal"), plan.sweep_id)
    completed = [r.number for r in records if r.state is TrialState.COMPLETED]
    assert len(completed) == NUM_TRIALS, [(r.number, r.state) for r in records]
    for number in completed:
        assert len((folder / "trials" / str(number) / "finished").read_text().split()) == 1
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("kd-sweep")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    held = resources(cluster)
    assert set(held["groups"]) <= {"REMOVED"}
    assert held["free"].get("CPU") == held["total"].get("CPU")


def resources(cluster: HandCluster) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", RESOURCES],
        env=cluster.environment | {"KD_ADDRESS": cluster.address},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def under_way(sweep: SweepProcess, ended: int = 1) -> None:
    sweep.wait_for(lambda: len(sweep.events("TrialEnded")) >= ended, 300)


def test_a_node_that_is_lost(cluster: HandCluster, start: Start, tmp_path: Path) -> None:
    sweep = start("events")
    under_way(sweep)
    assert cluster.kill_node("node-1") > 1
    time.sleep(5)
    cluster.add_node("node-2")
    assert sweep.wait(400) == 0, sweep.output()
    assert_whole(tmp_path, cluster)


def test_a_slots_controller_that_is_killed(
    cluster: HandCluster, start: Start, tmp_path: Path
) -> None:
    sweep = start("events")
    under_way(sweep)
    assert cluster.kill_like("ray::TrainController")
    assert sweep.wait(400) == 0, sweep.output()
    assert_whole(tmp_path, cluster)


def test_a_worker_that_is_killed_in_a_step(
    cluster: HandCluster, start: Start, tmp_path: Path
) -> None:
    sweep = start("events")
    under_way(sweep)
    assert cluster.kill_like("ray::RayTrainWorker")
    killed = time.monotonic()
    sweep.wait_for(lambda: any(e["attempt"] for e in sweep.events("TrialStarted")), 60)
    assert time.monotonic() - killed < 60
    assert sweep.wait(400) == 0, sweep.output()
    assert_whole(tmp_path, cluster)


def test_a_driver_that_is_killed_at_random_moments(
    cluster: HandCluster, start: Start, tmp_path: Path
) -> None:
    moments = random.Random(0)
    for number in range(DRIVER_KILLS):
        sweep = start(f"driver-{number}")
        try:
            sweep.process.wait(moments.uniform(2, 20))
            break
        except subprocess.TimeoutExpired:
            sweep.process.send_signal(signal.SIGKILL)
            sweep.process.wait()
    last = start("last")
    assert last.wait(400) == 0, last.output()
    assert_whole(tmp_path, cluster)


def test_a_head_that_is_lost(cluster: HandCluster, start: Start, tmp_path: Path) -> None:
    sweep = start("events")
    under_way(sweep)
    cluster.stop()
    sweep.process.kill()  # a job's driver dies with its head; this one stood outside
    sweep.process.wait()
    another = HandCluster()
    try:
        another.start(nodes=2)
        last = SweepProcess(
            tmp_path,
            "another",
            another.environment,
            address=another.address,
            step_s=STEP_S,
            document=document(),
        )
        with closing(last):
            assert last.wait(400) == 0, last.output()
        assert_whole(tmp_path, another)
    finally:
        another.stop()


def test_two_workers_on_two_nodes_are_one_trial(
    cluster: HandCluster, start: Start, tmp_path: Path
) -> None:
    wide = {"resources": {"workers_per_trial": 2}}
    sweep = start("events", document=document(**wide), step_s=0.1)
    assert sweep.wait(400) == 0, sweep.output()
    assert_whole(tmp_path, cluster, **wide)
