"""The service as its user starts it: a process that listens, ends at Ctrl-C, and may be killed."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from fakes import REAL, make_document

from service.accounts.users import draw_token, split_token
from service.errors import PlanError
from service.web.serving import Settings, WithoutSecrets, allowed_in, serve
from service.workspace import Workspace

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Served:
    """A running service; `token`: the one that it printed, if it did."""

    process: "subprocess.Popen[str]"
    address: str
    token: str | None

    def __call__(self, method: str, path: str, token: str, **given: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} | given.pop("headers", {})
        return requests.request(method, f"{self.address}{path}", headers=headers, **given)


@contextmanager
def started(home: Path, log: Path) -> Iterator[Served]:
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--json"]
    environment = os.environ | {"KD_SWEEP_HOME": str(home), "PYTHONPATH": str(ROOT)}
    with log.open("a") as errors:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=home
        )
    assert process.stdout is not None
    lines: list[str] = []
    while not (lines and lines[-1].startswith("}")):
        line = process.stdout.readline()
        assert line, log.read_text()
        lines.append(line)
    said = json.loads("".join(lines))
    served = Served(process, said["address"], said["token"])
    wait_for(lambda: answers(served))
    try:
        yield served
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def answers(served: Served) -> bool:
    try:
        return requests.get(f"{served.address}/readyz").ok
    except requests.ConnectionError:
        return False


def wait_for(ready: Any, timeout_s: float = 240.0) -> Any:
    end = time.monotonic() + timeout_s
    while not (found := ready()):
        assert time.monotonic() < end, "it is late"
        time.sleep(0.1)
    return found


def test_it_serves_until_ctrl_c_and_gives_its_token_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(tmp_path, log) as served:
        assert served.address.startswith("http://127.0.0.1:") and served.token is not None
        assert served("GET", "/api/v1/me", served.token).json()["name"] == "admin"
        assert requests.get(f"{served.address}/", allow_redirects=False).status_code == 303
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(60) == 0
    with started(tmp_path, log) as again:
        assert again.token is None
        assert again("GET", "/api/v1/me", served.token).status_code == 200
    assert served.token not in log.read_text()


def test_a_port_that_another_has_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PlanError, match=f"serve: must get 127.0.0.1:{port} to listen at"):
            serve(Workspace(tmp_path), Settings(port=port), lambda address, token: None)


def test_sweeps_may_name_the_storage_that_the_service_gives_them(tmp_path: Path) -> None:
    storage = {"path": "s3://bucket/team", "study_url": "postgresql://db/optuna"}
    place = Workspace(tmp_path / "home", folder=tmp_path, storage=storage)
    found = allowed_in(place, Settings(addresses=("http://mlflow:5000",)))
    assert found.folders == (tmp_path,) and found.hidden == (tmp_path / "home",)
    assert set(found.addresses) == {*storage.values(), "http://mlflow:5000"}
    shared = allowed_in(Workspace(tmp_path, storage={"path": "/shared"}), Settings())
    assert Path("/shared") in shared.folders


def test_no_line_of_its_log_has_a_secret() -> None:
    token = draw_token().text
    try:
        raise RuntimeError(f"no answer from postgresql://me:hunter2@db/kd for {token}")
    except RuntimeError:
        error = sys.exc_info()
    record = logging.LogRecord("x", logging.ERROR, "x", 1, "GET %s", (f"/?token={token}",), error)
    line = WithoutSecrets("%(message)s").format(record)
    assert "RuntimeError" in line and "postgresql://me:***@db" in line
    parts = split_token(token)
    assert parts is not None and parts[1] not in line and "hunter2" not in line


@pytest.mark.ray
def test_a_sweep_goes_on_while_its_service_is_killed_and_back(tmp_path: Path) -> None:
    log, spec = tmp_path / "log", make_document(**REAL, trials=2)
    with started(tmp_path, log) as served:
        token = served.token
        assert token is not None
        headers = {"Idempotency-Key": "the-only-one"}
        made = served("POST", "/api/v1/sweeps", token, json={"spec": spec}, headers=headers)
        assert made.status_code == 201, made.text
        path = f"/api/v1/sweeps/{made.json()['sweep_id']}"
        begun = tmp_path / "launches"
        wait_for(lambda: list(begun.glob("*/begun")))
    with started(tmp_path, log) as served:
        again = served("POST", "/api/v1/sweeps", token, json={"spec": spec}, headers=headers)
        assert (again.status_code, again.json()["sweep_id"]) == (200, made.json()["sweep_id"])
        said = served("GET", f"{path}/events", token).text
        assert "TrialEnded" in said and "event: end" in said
        status = served("GET", f"{path}/status", token).json()
        assert (status["state"], status["trials"]) == ("completed", {"completed": 2}), status
        assert len(served("GET", "/api/v1/sweeps", token).json()) == 1
        assert len(served("GET", f"{path}/trials", token).json()) == 2
