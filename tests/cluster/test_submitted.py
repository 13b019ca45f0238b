"""The way of the README's cluster section, word for word: submit, follow, stop, go on, extend."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import REAL, make_document
from hand_cluster import HandCluster, free_port, running_cluster

from service.record.runs import Runs

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

DOCUMENT = make_document(
    **REAL, name="submitted", training={"steps": 60, "batch_size": 8}, trials=4
)


class Shell:
    """Runs `kd-sweep` as a user on the head does."""

    def __init__(self, cluster: HandCluster, home: Path) -> None:
        self.environment = (
            os.environ
            | cluster.environment
            | {"KD_SWEEP_HOME": str(home), "KD_SWEEP_ADDRESS": cluster.dashboard}
        )

    def __call__(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).parent / "kd-sweep"), *words],
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))

    def wait_for(self, sweep: str, state: str, timeout_s: float = 300) -> dict[str, Any]:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            row: dict[str, Any] = self.json("status", sweep)
            if row["state"] == state:
                return row
            assert row["state"] not in ("failed", "cancelled"), row["message"]
            time.sleep(2)
        raise AssertionError(f"{row} is not {state}")

    def states(self, sweep: str) -> list[str]:
        return [row["state"] for row in self.json("trials", sweep)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[HandCluster]:
    with running_cluster() as made:
        yield made


def test_a_sweep_is_submitted_stopped_resumed_and_extended(
    cluster: HandCluster, tmp_path: Path
) -> None:
    shell = Shell(cluster, tmp_path / "home")
    spec = tmp_path / "sweep.yaml"
    spec.write_text(yaml.safe_dump(DOCUMENT))
    first = shell.json("submit", str(spec), "--yes")
    again = shell.json("submit", str(spec), "--yes")
    assert (again["job"], again["is_new"]) == (first["job"], False)
    sweep = first["sweep_id"]

    end = time.monotonic() + 240
    while not shell.json("status", sweep)["trials"].get("running"):
        assert time.monotonic() < end, shell("logs", sweep)
        time.sleep(2)
    assert shell.json("stop", sweep)["state"] == "cancelled"
    assert "running" not in shell.states(sweep)
    assert f"was stopped. Go on with: kd-sweep resume {sweep}" in shell("watch", sweep, code=130)
    assert [row["state"] for row in shell.json("status")] == ["cancelled"]

    resumed = shell.json("resume", sweep)
    assert resumed["job"] == f"{sweep}-a2"
    shell("watch", sweep)
    assert shell.wait_for(sweep, "completed")["trials"] == {"completed": 4}
    assert len(shell.states(sweep)) == 4, "what was cancelled went on under its number"
    shell.json("extend", sweep, "--trials", "2")
    assert shell.wait_for(sweep, "completed")["trials"] == {"completed": 6}
    assert shell.states(sweep) == ["completed"] * 6
    assert "nothing to retry" in shell("retry", sweep, code=3)
    lines = shell("logs", sweep, "--trial", "0").splitlines()
    assert all('"trial": 0' in line for line in lines)
    assert_what_was_found_is_kept(sweep, Path(shell.environment["KD_SWEEP_HOME"]))


def assert_what_was_found_is_kept(sweep: str, home: Path) -> None:
    """The sweep's run has the report, the same in short, and the same at the top of its page."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    run_id = Runs(f"sqlite:///{home}/mlflow.db").resolve_sweep(sweep).run_id
    files = {one.path for one in client.list_artifacts(run_id)}
    assert {"report.md", "report.html"} <= files
    note = client.get_run(run_id).data.tags["mlflow.note.content"]
    assert "| undistilled student |" in note
    assert note.endswith(f"`kd-sweep best --sweep {sweep}` shows more.\n")


def test_a_wrong_token_is_explained(cluster: HandCluster, tmp_path: Path) -> None:
    shell = Shell(cluster, tmp_path)
    shell.environment["RAY_AUTH_TOKEN"] = "0" * 64
    assert "RAY_AUTH_TOKEN" in shell("status", code=4)


def test_more_than_the_cluster_has_is_refused(cluster: HandCluster, tmp_path: Path) -> None:
    shell = Shell(cluster, tmp_path)
    spec = tmp_path / "sweep.yaml"
    spec.write_text(yaml.safe_dump(DOCUMENT | {"resources": {"cpus_per_worker": 2}}))
    error = shell("submit", str(spec), "--yes", code=3)
    assert "a worker of 2 CPUs" in error and "at most 1 CPUs" in error


def test_a_second_ray_whose_agent_has_no_port_is_found_out_at_once(tmp_path: Path) -> None:
    port = free_port()
    spec = tmp_path / "sweep.yaml"
    spec.write_text(yaml.safe_dump(DOCUMENT))
    with (
        running_cluster(nodes=0, agent_port=port),
        running_cluster(nodes=0, agent_port=port) as second,
    ):
        shell = Shell(second, tmp_path)
        began = time.monotonic()
        error = shell("submit", str(spec), "--yes", code=4)
    assert "--dashboard-agent-listen-port" in error
    assert time.monotonic() - began < 30, "Ray itself waits for a minute"
