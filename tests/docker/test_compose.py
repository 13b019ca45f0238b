"""The stack of docker/compose.yaml for real: Ray's head, two workers, MLflow on PostgreSQL.

The database is Debian's PostgreSQL in an image built here, so that no registry is needed.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from docker_support import ROOT, TINY_SWEEP, Builder

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.docker, pytest.mark.slow]

FILES = ("docker/compose.yaml", "docker/compose.gpu.yaml")
PROJECT = "kd-sweep-test"
RAY_PORT, MLFLOW_PORT = 18265, 15000
START_S, STOP_S, JOB_S, SWEEP_S = 300, 120, 180, 300

# Runs as a Ray job: which CPUs are there, does a task run on each worker, and is it recorded?
JOB = """
import os, socket, time
import mlflow, ray
ray.init(log_to_driver=False)

@ray.remote(num_cpus=1)
def record(number):
    with mlflow.start_run(experiment_id="0", run_name=f"task-{number}") as run:
        mlflow.log_metric("niceness", os.nice(0))
        mlflow.log_text("from a worker", "note.txt")
        time.sleep(3)
    return socket.gethostname(), mlflow.artifacts.load_text(run.info.artifact_uri + "/note.txt")

answers = ray.get([record.remote(number) for number in range(2)])
print("cpus", int(ray.cluster_resources()["CPU"]), "hosts", len({host for host, _ in answers}))
print("notes", sorted({note for _, note in answers}))
"""


def compose_command() -> list[str]:
    """Compose v2 as Docker's plugin, or Debian's; skips where neither is installed."""
    plugin = ["docker", "compose", "version"]
    if shutil.which("docker") and subprocess.run(plugin, capture_output=True).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    pytest.skip("neither `docker compose` nor docker-compose is installed")


@dataclass(frozen=True)
class Compose:
    """Compose with the project's files and the settings of one stack."""

    command: list[str]
    settings: dict[str, str]

    def __call__(
        self, *arguments: str, files: tuple[str, ...] = FILES[:1], timeout_s: int = 60
    ) -> "subprocess.CompletedProcess[str]":
        named = [word for file in files for word in ("--file", file)]
        return subprocess.run(
            [*self.command, "--project-name", PROJECT, *named, *arguments],
            cwd=ROOT,
            env=os.environ | self.settings,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )


@pytest.fixture(scope="session")
def settings() -> dict[str, str]:
    return {
        "KD_SWEEP_IMAGE": "kd-sweep:test",
        "POSTGRES_IMAGE": "kd-sweep-postgres:test",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "POSTGRES_PASSWORD": secrets.token_hex(16),
        "RAY_PORT": str(RAY_PORT),
        "MLFLOW_PORT": str(MLFLOW_PORT),
        "MLFLOW_WORKERS": "1",
    }


@pytest.fixture(scope="session")
def stack(
    engine: "DockerClient", builder: Builder, image: str, settings: dict[str, str]
) -> Iterator[Compose]:
    """The stack, up and ready by its own probes; taken down with its volumes."""
    compose = Compose(compose_command(), settings)
    builder.build("kd-sweep-postgres:test", ROOT / "tests/docker/postgres", "Dockerfile")
    try:
        started = compose("up", "--detach", timeout_s=START_S)
        assert started.returncode == 0, started.stderr + compose("logs", "--tail=20").stdout
        wait_for_workers(compose)
        yield compose
    finally:
        compose("down", "--volumes", "--timeout=5", timeout_s=STOP_S)


def wait_for_workers(compose: Compose) -> None:
    """`up` returns once the workers have started, which is before Ray counts them."""
    end = time.monotonic() + START_S
    while "/2.0 CPU" not in (seen := compose("exec", "-T", "ray-head", "ray", "status").stdout):
        assert time.monotonic() < end, seen
        time.sleep(1)


def status(url: str, **headers: str) -> int:
    """The status of the answer from `url`."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=10
        ) as got:
            return int(got.status)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)


@pytest.mark.parametrize("files", [FILES[:1], FILES], ids=["cpu", "gpu"])
def test_the_files_are_valid(settings: dict[str, str], files: tuple[str, ...]) -> None:
    checked = Compose(compose_command(), settings)("config", "--quiet", files=files)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("secret", ["RAY_AUTH_TOKEN", "POSTGRES_PASSWORD"])
def test_it_does_not_start_without_its_secrets(settings: dict[str, str], secret: str) -> None:
    checked = Compose(compose_command(), settings | {secret: ""})("config", "--quiet")
    assert checked.returncode != 0
    assert secret in checked.stderr
    assert "make docker/.env" in checked.stderr


def test_everything_listens_on_localhost_alone(engine: "DockerClient", stack: Compose) -> None:
    containers = engine.containers.list(filters={"label": f"com.docker.compose.project={PROJECT}"})
    bound = [
        entry for box in containers for entries in box.ports.values() for entry in entries or []
    ]
    assert len(containers) == 5
    assert {entry["HostIp"] for entry in bound} == {"127.0.0.1"}
    assert {entry["HostPort"] for entry in bound} == {str(RAY_PORT), str(MLFLOW_PORT)}


def test_mlflow_answers_under_its_own_names_alone(stack: Compose) -> None:
    url = f"http://127.0.0.1:{MLFLOW_PORT}/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert status(url) == 200
    assert status(url, Host="mlflow:5000") == 200
    assert status(url, Host="somewhere.example") == 403


def test_ray_answers_nobody_without_the_token(stack: Compose) -> None:
    url = f"http://127.0.0.1:{RAY_PORT}/api/jobs/"
    token = stack.settings["RAY_AUTH_TOKEN"]
    assert status(url) == 401
    assert status(url, Authorization=f"Bearer {'0' * len(token)}") in (401, 403)
    assert status(url, Authorization=f"Bearer {token}") == 200


def test_a_job_runs_on_both_workers_and_is_recorded(stack: Compose) -> None:
    submitted = stack(
        "exec", "-T", "ray-head", "ray", "job", "submit", "--address", "http://localhost:8265",
        "--", "python", "-c", JOB, timeout_s=JOB_S,
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stdout[-2000:] + submitted.stderr[-2000:]
    assert "cpus 2 hosts 2" in submitted.stdout
    assert "notes ['from a worker']" in submitted.stdout


def test_a_sweep_is_submitted_from_outside_and_finishes(stack: Compose, tmp_path: Path) -> None:
    def ask(*arguments: str, **environment: str) -> Any:
        return json.loads(as_a_client(stack, tmp_path, *arguments, "--json", **environment))

    job = ask("submit", "demo", "--yes", *TINY_SWEEP)
    end = time.monotonic() + SWEEP_S
    while (state := ask("status")[0]["state"]) in ("pending", "running"):
        assert time.monotonic() < end, as_a_client(stack, tmp_path, "logs", job["sweep_id"])
        time.sleep(3)
    assert state == "completed", as_a_client(stack, tmp_path, "logs", job["sweep_id"])
    best = ask("best", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{MLFLOW_PORT}")
    assert {row["sweep_id"] for row in best} == {job["sweep_id"]}
    assert [row["state"] for row in best] == ["completed", "completed"]


def as_a_client(stack: Compose, home: Path, *arguments: str, **environment: str) -> str:
    """What kd-sweep prints on this machine, outside the stack, with the token and the address."""
    inherited = {name: text for name, text in os.environ.items() if name != "KD_SWEEP_HOME"}
    known = {
        "HOME": str(home),
        "KD_SWEEP_ADDRESS": f"http://127.0.0.1:{RAY_PORT}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": stack.settings["RAY_AUTH_TOKEN"],
    }
    done = subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env=inherited | known | environment,
        capture_output=True,
        text=True,
        timeout=JOB_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
