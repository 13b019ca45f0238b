"""A Docker engine and the project's image built on it, once a session."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from docker_support import Builder, pip_build_arguments

if TYPE_CHECKING:
    from docker import DockerClient


@pytest.fixture(scope="session")
def engine() -> Iterator["DockerClient"]:
    """A client of the engine that answers; skips, with the reason, where none does."""
    import docker

    if reason := os.environ.get("KD_SWEEP_NO_DOCKER"):
        pytest.skip(reason)
    try:
        client = docker.from_env(timeout=600)
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker engine answers: {error}")
    yield client
    client.close()


@pytest.fixture(scope="session")
def builder(engine: "DockerClient", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """Builds images with what pip installs on this machine."""
    with pip_build_arguments(tmp_path_factory.mktemp("pip")) as arguments:
        yield Builder(engine, arguments)


@pytest.fixture(scope="session")
def image(builder: Builder) -> str:
    """The name of the project's image, built from this checkout."""
    return builder.build("kd-sweep:test", COMMIT="0123abc", VERSION="1.2.3")
