"""A sweep of a divergence of one's own inside the image, and its best trial again in a container,
from the run alone."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from docker_support import (
    TIMEOUT_S,
    TINY_SWEEP,
    TRAINING_STEPS,
    Builder,
    Recorded,
    in_the_image,
)

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

pytestmark = [pytest.mark.docker, pytest.mark.slow]

CONFIRMED, FAILED, PLAN_ERROR, TRACKING_ERROR = 0, 1, 3, 5
RERUN = {"label": "kd-sweep.rerun"}
OWN_MODULE = """
def forward(student_logits, teacher_logits):
    student, teacher = student_logits.log_softmax(-1), teacher_logits.detach().log_softmax(-1)
    return (teacher.exp() * (teacher - student)).sum(-1)
"""
OWN_DIVERGENCE = "--set=search.divergence={fixed: container_losses:forward}"
# The same libraries, one of which says that it is another version.
OTHER_VERSION = """
FROM kd-sweep:test
USER root
WORKDIR /opt/venv/lib
RUN sed -i 's/^Version: .*/Version: 5.0.99/' python3*/site-packages/optuna-*.dist-info/METADATA
WORKDIR /home/kd
USER kd
"""


@pytest.fixture(scope="module")
def recorded(
    engine: "DockerClient", image: str, tmp_path_factory: pytest.TempPathFactory
) -> Recorded:
    home = tmp_path_factory.mktemp("home")
    own = home / "container_losses.py"
    own.write_text(OWN_MODULE)
    in_the_image(engine, image, home, "run", "demo", *TINY_SWEEP, OWN_DIVERGENCE)
    own.unlink()
    best = in_the_image(engine, image, home, "best", "--top", "1")
    return Recorded(home, best[0])


@pytest.fixture(autouse=True)
def nothing_is_left(engine: "DockerClient", recorded: Recorded) -> Iterator[None]:
    """After every rerun, whatever came of it, no container is left and no run is RUNNING."""
    yield
    assert engine.containers.list(all=True, filters=RERUN) == []
    assert "RUNNING" not in recorded.states()


def test_the_winner_is_reproduced_from_its_run_alone(recorded: Recorded) -> None:
    done = recorded.ask("rerun", recorded.best["run_id"], "--json")
    assert done.returncode == CONFIRMED, done.stderr
    answer = json.loads(done.stdout)
    assert answer["verdict"] == "reproduced"
    assert answer["weights_equal"] is True
    assert answer["differences"] == {}
    assert answer["steps_compared"] == TRAINING_STEPS
    assert {row["metric"] for row in answer["metrics"]} >= {"rouge_l", "cross_entropy"}


def test_a_changed_library_is_named(recorded: Recorded, builder: Builder, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(OTHER_VERSION)
    image = builder.build("kd-sweep:other-version", tmp_path, "Dockerfile")
    done = recorded.ask("rerun", recorded.trial, "--image", image, "--json")
    builder.engine.images.remove(image)
    assert done.returncode == CONFIRMED, done.stderr
    named = json.loads(done.stdout)["differences"]
    assert named["versions.optuna"] == {"recorded": "5.0.0", "rerun": "5.0.99"}
    assert "provenance.image" in named


def test_changed_data_are_refused(recorded: Recorded, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(prepared_data(recorded), data)
    longest = max((data / "train").rglob("*.arrow"), key=lambda path: path.stat().st_size)
    content = bytearray(longest.read_bytes())
    content[len(content) // 2] ^= 1
    longest.write_bytes(content)
    done = recorded.ask("rerun", recorded.trial, "--mount", f"data={data}")
    assert done.returncode == PLAN_ERROR, done.stdout + done.stderr
    assert "paths.data: it must hold what the trial was made with" in done.stderr


def prepared_data(recorded: Recorded) -> Path:
    trial = recorded.home / "trial.json"
    exported = recorded.ask("best", "--top", "1", "--export", str(trial), "--json")
    assert exported.returncode == 0, exported.stderr
    return Path(json.loads(trial.read_text())["paths"]["data"])


def test_a_killed_container_is_a_failed_rerun(engine: "DockerClient", recorded: Recorded) -> None:
    with recorded.start("rerun", recorded.trial) as process:
        trainer(engine, process).kill()
        _, said = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == FAILED
    assert "killed from outside" in said


def test_an_interrupted_rerun_stops_its_container(
    engine: "DockerClient", recorded: Recorded
) -> None:
    with recorded.start("rerun", recorded.trial) as process:
        trainer(engine, process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=TIMEOUT_S)
    assert process.returncode != CONFIRMED
    assert "KILLED" in recorded.states()


def trainer(engine: "DockerClient", process: "subprocess.Popen[str]") -> "Container":
    """The container in which the trial trains, as soon as it runs."""
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        for container in engine.containers.list(filters=RERUN):
            if "trainers" in container.attrs["Config"]["Cmd"]:
                return container
        time.sleep(0.1)
    raise AssertionError(f"no trial started, the rerun's exit code is {process.poll()}")


def test_a_missing_image_is_named(recorded: Recorded) -> None:
    done = recorded.ask("rerun", recorded.trial, "--image", "kd-sweep:nowhere")
    assert done.returncode == PLAN_ERROR
    assert "kd-sweep:nowhere" in done.stderr
    assert "--local" in done.stderr


def test_without_docker_the_other_way_is_named(recorded: Recorded) -> None:
    done = recorded.ask("rerun", recorded.trial, DOCKER_HOST="unix:///nowhere/socket")
    assert done.returncode == PLAN_ERROR
    assert "--local" in done.stderr


def test_a_run_that_is_no_trial_is_refused(recorded: Recorded) -> None:
    done = recorded.ask("rerun", f"{recorded.best['sweep_id']}/99")
    assert done.returncode == TRACKING_ERROR
    assert "99" in done.stderr
