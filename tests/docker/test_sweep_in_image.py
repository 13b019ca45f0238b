"""A sweep inside the image, and its best trial again in a fresh container: the same numbers."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.docker, pytest.mark.slow]

HOME = "/home/kd/.kd-sweep"
TINY = {
    "trials": "2",
    "controls": "none",
    "early_stopping": "{kind: none}",
    "resources.slots": "1",
    "teacher.fit.steps": "8",
    "student.fit.steps": "4",
    "training.steps": "8",
    "data.max_train_examples": "200",
    "data.max_validation_examples": "32",
    "evaluation.evaluations": "2",
    "evaluation.generation_prompts": "4",
}


class Room:
    """Containers of the image that share one home, have no network and cannot change the image."""

    def __init__(self, engine: "DockerClient", image: str, volume: str) -> None:
        self._engine, self._image, self._volume = engine, image, volume

    def __call__(self, *command: str) -> Any:
        """The JSON that `command` prints. Raises `ContainerError`, with stderr, when it fails."""
        printed = self._engine.containers.run(
            self._image,
            list(command),
            network_mode="none",
            read_only=True,
            remove=True,
            init=True,
            shm_size="512m",
            tmpfs={"/tmp": ""},
            volumes={self._volume: {"bind": HOME, "mode": "rw"}},
            stderr=False,
        )
        return json.loads(printed)


@pytest.fixture(scope="module")
def room(engine: "DockerClient", image: str) -> Iterator[Room]:
    volume = engine.volumes.create()
    yield Room(engine, image, volume.name)
    volume.remove()


@pytest.fixture(scope="module")
def winner(room: Room) -> dict[str, Any]:
    """The best trial of a sweep that ran in the image, as `best` shows it."""
    overrides = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
    assert room("kd-sweep", "run", "demo", "--json", *overrides)
    found = room("kd-sweep", "best", "--top", "1", "--export", f"{HOME}/trial.json", "--json")
    assert [row["state"] for row in found] == ["completed"]
    return dict(found[0])


def test_the_winner_trains_to_the_same_numbers_in_a_fresh_container(
    room: Room, winner: dict[str, Any]
) -> None:
    trial, output = f"{HOME}/trial.json", f"{HOME}/again"
    again = room("python", "-m", "trainers", trial, "--output", output, "--json")
    recorded = {name: winner["metrics"][name] for name in again["metrics"]}
    assert again["metrics"] == recorded
    assert again["steps"] == int(TINY["training.steps"])


def test_it_is_known_what_it_ran_on(room: Room, winner: dict[str, Any]) -> None:
    script = f"import pathlib; print(pathlib.Path('{HOME}/trial.json').read_text())"
    trial = room("python", "-c", script)
    assert trial["sweep_id"] == winner["sweep_id"]
    assert trial["world_size"] == 1
    assert {"torch", "ray", "mlflow"} <= trial["versions"].keys()
