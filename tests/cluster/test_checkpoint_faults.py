"""What happens to checkpoints and to other files of a sweep, with real training."""

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fakes import REAL
from hand_cluster import HandCluster, running_cluster
from sweep_process import SweepProcess
from whole import (
    Start,
    assert_nothing_is_held,
    assert_whole,
    document,
    folder_of,
    runs_of,
    steps_logged,
)

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

LONG: dict[str, Any] = REAL | {"training": {"steps": 200, "batch_size": 4}, "trials": 4}


@pytest.fixture(scope="module")
def cluster() -> Iterator[HandCluster]:
    """One for all tests: here it is the storage that fails."""
    with running_cluster() as made:
        yield made


def begin(start: Start, name: str = "events", **order: Any) -> Any:
    return start(name, **({"prepare": "real", "document": document(**LONG)} | order))


def test_a_worker_that_is_killed_while_it_writes_a_checkpoint(
    cluster: HandCluster, start: Start, tmp_path: Path
) -> None:
    sweep = begin(start, disk="killed")
    assert sweep.wait(400) == 0, sweep.output()
    assert_whole(tmp_path, cluster, **LONG)
    attempts = [e["attempt"] for e in sweep.events("TrialStarted") if e["trial"] == 1]
    assert attempts == [0, 1]
    steps = steps_logged(f"sqlite:///{tmp_path}/mlflow.db", 1)
    assert sorted(set(steps)) == list(range(1, 201))
    assert steps.count(1) == steps.count(50) == 1, "what the first checkpoint holds is kept"


def test_a_disk_that_is_full_at_a_checkpoint(
    cluster: HandCluster, start: Start, tmp_path: Path
) -> None:
    sweep = begin(start, disk="full")
    assert sweep.wait(400) == 0, sweep.output()
    assert_whole(tmp_path, cluster, **LONG)
    assert [e["attempt"] for e in sweep.events("TrialStarted") if e["trial"] == 1] == [0]
    said = [e["text"] for e in sweep.events("Notice") if e["text"].startswith("trial 1 says")]
    assert len(said) == 2 and "No space left" in said[0] and "after step 100" in said[0]


def test_files_that_are_damaged_while_nobody_runs(
    cluster: HandCluster, start: Start, tmp_path: Path
) -> None:
    first = begin(start, "first")
    folder = folder_of(tmp_path, **LONG)
    trial = folder / "trials" / "0"
    first.wait_for(lambda: len(list(trial.glob("checkpoints/step-*"))) >= 2, 300)
    first.process.send_signal(signal.SIGKILL)
    first.wait()
    newest = max(trial.glob("checkpoints/step-*"))
    (newest / "state.pt").write_bytes((newest / "state.pt").read_bytes()[:100])
    (trial / "trial.json").write_text('{"trial": 0, "conf')
    (trial / "result.json").write_text('{"outcome"')
    journal = (folder / "study.journal").read_bytes()
    (folder / "study.journal").write_bytes(journal + journal[-40:-1])

    second = begin(start, "second")
    assert second.wait(400) == 0, second.output()
    assert_whole(tmp_path, cluster, **LONG)
    said = [e["text"] for e in second.events("Notice") if newest.name in e["text"]]
    assert said and "damaged" in said[0] and "the one before it" in said[0]
    runs = runs_of(f"sqlite:///{tmp_path}/mlflow.db")
    assert runs[0].data.metrics["train/loss"] > 0


def test_a_new_cluster_goes_on_from_an_object_store(
    cluster: HandCluster, start: Start, tmp_path: Path
) -> None:
    """Only checkpoints, study and record are left: the home folder is another one."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    storage = {"path": f"file://{tmp_path}/bucket", "study_url": f"sqlite:///{tmp_path}/study.db"}
    changes = LONG | {"storage": storage}
    bucket = tmp_path / "bucket" / "sweeps" / folder_of(tmp_path, **changes).name / "trials"
    first = begin(start, "first", document=document(**changes))
    first.wait_for(lambda: len(list(bucket.glob("0/step-*/check.json"))) >= 2, 300)
    # What MLflow has not got yet waits in the home folder, and is lost with it.
    first.wait_for(lambda: 100 in steps_logged(uri, 0), 60)
    first.process.send_signal(signal.SIGKILL)
    first.wait()

    home = tmp_path / "another"
    second = SweepProcess(
        home,
        "second",
        cluster.environment,
        address=cluster.address,
        tracking=uri,
        prepare="real",
        document=document(**changes),
    )
    with closing(second):
        assert second.wait(400) == 0, second.output()
        (ended,) = second.events("SweepEnded")
    assert ended["summary"]["counts"] == {"completed": 4}
    assert not list(bucket.glob("*/step-*")), "given up when the trials had ended"
    assert not list(folder_of(home, **changes).glob("trials/*/checkpoints"))
    steps = steps_logged(uri, 0)
    assert steps.count(1) == steps.count(100) == 1, "the second driver went on from the store"
    assert_nothing_is_held(cluster)
