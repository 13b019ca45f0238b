"""What a cluster does to a sweep: each test ends with the trials of an undisturbed run, once
each."""

import random
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from hand_cluster import HandCluster, running_cluster
from mlflow_server import Server
from sweep_process import SweepProcess
from whole import (
    STEP_S,
    Start,
    assert_nothing_is_held,
    assert_whole,
    document,
    in_a_step,
    steps_logged,
    study_of,
    under_way,
)

from service.record.store import replay_spool

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

DRIVER_KILLS = 20
OUTAGE_S = 60
ACTORS = "ray._private.state.actors().values()"
BOARDS = f"[a['Address']['NodeID'] for a in {ACTORS} if a['ActorClassName'] == 'Board']"
HEADS = "[n['NodeID'] for n in ray.nodes() if 'node:__internal_head__' in n['Resources']]"


def test_a_node_that_is_lost(cluster: HandCluster, start: Start, tmp_path: Path) -> None:
    sweep = start("events")
    under_way(sweep)
    assert set(cluster.ask(BOARDS)) == set(cluster.ask(HEADS)), "on nodes that may go by chance"
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
    alone = {"resources": {"slots": 1}}  # with two, the other worker may be between trials
    sweep = start("events", document=document(**alone))
    in_a_step(sweep)
    assert cluster.kill_like("ray::RayTrainWorker")
    killed = time.monotonic()
    sweep.wait_for(lambda: any(e["attempt"] for e in sweep.events("TrialStarted")), 60)
    assert time.monotonic() - killed < 60
    assert sweep.wait(400) == 0, sweep.output()
    assert_whole(tmp_path, cluster, **alone)


def test_a_driver_that_is_killed_at_random_moments(
    cluster: HandCluster, start: Start, tmp_path: Path
) -> None:
    many = document(trials=60)
    moments = random.Random(0)
    for number in range(DRIVER_KILLS):
        sweep = start(f"driver-{number}", document=many)
        with pytest.raises(subprocess.TimeoutExpired, match="timed out"):
            sweep.process.wait(moments.uniform(2, 20))
        sweep.process.send_signal(signal.SIGKILL)
        sweep.process.wait()
    last = start("last", document=many)
    assert last.wait(400) == 0, last.output()
    assert_whole(tmp_path, cluster, trials=60)


def test_a_tracking_server_that_is_away_for_a_minute(
    cluster: HandCluster, start: Start, tmp_path: Path
) -> None:
    server = Server(tmp_path / "server")
    server.start()
    try:
        sweep = start("events", tracking=server.uri)
        under_way(sweep)
        server.kill()
        time.sleep(OUTAGE_S)
        server.start()
        assert sweep.wait(400) == 0, sweep.output()
        # Where the sweep was over before the server was back, the next command delivers its record.
        assert replay_spool(server.uri, tmp_path) == 0
        assert_whole(tmp_path, cluster, server.uri)
        for number in range(8):
            assert steps_logged(server.uri, number) == list(range(1, 9)), f"trial {number}"
    finally:
        server.kill()


def test_a_head_that_is_lost(cluster: HandCluster, start: Start, tmp_path: Path) -> None:
    sweep = start("events")
    under_way(sweep)
    cluster.stop()
    sweep.process.kill()  # a job's driver dies with its head; this one stood outside
    sweep.process.wait()
    with running_cluster() as another:
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


def test_two_workers_on_two_nodes_are_one_trial(
    cluster: HandCluster, start: Start, tmp_path: Path
) -> None:
    wide = {"resources": {"workers_per_trial": 2}}
    sweep = start("events", document=document(**wide), step_s=0.1)
    assert sweep.wait(400) == 0, sweep.output()
    assert_whole(tmp_path, cluster, **wide)


def test_a_node_whose_end_is_announced(cluster: HandCluster, start: Start, tmp_path: Path) -> None:
    many = {"trials": 16}
    sweep = start("events", document=document(**many))
    under_way(sweep)
    cluster.announce_end("node-1", deadline_s=60)
    sweep.wait_for(
        lambda: any("node is about to go" in e["text"] for e in sweep.events("Notice")), 60
    )
    cluster.add_node("node-2")
    cluster.kill_node("node-1")  # which leaves by itself as soon as nothing runs on it
    assert sweep.wait(400) == 0, sweep.output()
    assert_whole(tmp_path, cluster, **many)
    retried = [e for e in sweep.events("TrialStarted") if e["attempt"]]
    assert len(retried) == 1, "only the trial on that node was moved"


def test_two_sweeps_share_a_cluster(cluster: HandCluster, start: Start, tmp_path: Path) -> None:
    documents = [
        document(name=name, trials=4, resources={"slots": 1}) for name in ("one", "another")
    ]
    sweeps = [start(made["name"], document=made) for made in documents]
    for sweep in sweeps:
        assert sweep.wait(400) == 0, sweep.output()
        assert max(e["num_slots"] for e in sweep.events("SlotsUp")) == 1
    for made in documents:
        assert len([r for r in study_of(tmp_path, **made) if r.objective is not None]) == 4
    assert_nothing_is_held(cluster)
