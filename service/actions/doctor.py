"""Examines what a sweep needs on this machine: what works, what does not, and what to do."""

import os
import platform
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from service.errors import PlanError, TrackingError
from service.home import make_home
from service.plan.resources import count_cpus, count_gpus, free_bytes
from service.record.store import ensure_store
from service.words import GIB, size
from service.workspace import Workspace
from trainers.files.urls import without_secrets

OLDEST_PYTHON = (3, 11)
LITTLE_DISK = 5 * GIB
DOCKER_TIMEOUT_S = 5
DOCKER_SOCKET = "unix:///var/run/docker.sock"


@dataclass(frozen=True)
class Diagnosis:
    """How one part is doing. `needed`: no sweep runs without it; `remedy`: empty when it works."""

    name: str
    works: bool
    found: str
    remedy: str = ""
    needed: bool = True

    def to_json(self) -> dict[str, Any]:
        """Returns the row of `--json`."""
        return vars(self)


def examine(workspace: Workspace) -> list[Diagnosis]:
    """Returns one diagnosis a part, in the order in which a sweep needs them."""
    home = workspace.home
    return [
        check_python(sys.version_info[:2], platform.python_version()),
        check_torch(),
        check_package("ray", "Ray", "runs trials side by side"),
        check_package("optuna", "Optuna", "picks the next trial"),
        check_store(home, workspace.tracking_uri),
        check_disk(home, free_bytes(home)),
        check_docker(),
    ]


def check_python(running: tuple[int, ...], text: str) -> Diagnosis:
    """Returns whether this Python is new enough."""
    works = running >= OLDEST_PYTHON
    return Diagnosis("Python", works, text, "" if works else "Install Python 3.11 or newer.")


def check_torch() -> Diagnosis:
    """Returns torch's version and what it computes on. It fails where torch cannot use a GPU."""
    try:
        import torch
    except ImportError as error:
        return Diagnosis("torch", False, str(error), "Run make install.")
    threads = f"{count_cpus()} CPUs"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Diagnosis("torch", True, f"{torch.__version__} on {', '.join(names)}, {threads}")
    found = f"{torch.__version__} on {threads}, no GPU"
    if count_gpus() == 0:
        return Diagnosis("torch", True, found)
    return Diagnosis(
        "torch",
        False,
        f"{found} in use although the machine has {count_gpus()}",
        "Install a CUDA build: make install TORCH_INDEX=<the CUDA index named on pytorch.org>, "
        "or set resources.gpus_per_worker: 0.",
    )


def check_package(package: str, name: str, purpose: str) -> Diagnosis:
    """Returns the version of an installed package."""
    try:
        return Diagnosis(name, True, f"{version(package)}, {purpose}")
    except PackageNotFoundError:
        return Diagnosis(name, False, "not installed", "Run make install.")


def check_store(home: Path, tracking_uri: str) -> Diagnosis:
    """Returns whether MLflow's store answers; a local one is made when it is not there."""
    place = without_secrets(tracking_uri)
    try:
        ensure_store(tracking_uri, home)
    except (PlanError, TrackingError) as error:
        return Diagnosis("MLflow", False, place, str(error))
    return Diagnosis("MLflow", True, f"{version('mlflow')}, records in {place}")


def check_disk(home: Path, free: int) -> Diagnosis:
    """Returns whether the home folder has room, and may be written."""
    found = f"{size(free)} free at {home}"
    try:
        make_home(home)
        probe = home / ".probe"
        probe.write_text("")
        probe.unlink()
    except (OSError, PlanError) as error:
        return Diagnosis("disk", False, f"{home}: {error}", "Set KD_SWEEP_HOME to another folder.")
    if free < LITTLE_DISK:
        remedy = "Free some disk, or set KD_SWEEP_HOME to a folder with more."
        return Diagnosis("disk", False, found, remedy)
    return Diagnosis("disk", True, found)


def check_docker(connect: Callable[[], str] | None = None) -> Diagnosis:
    """Returns whether a Docker engine answers; only reruns in containers need one."""
    try:
        found = (connect or _docker_version)()
    except Exception as error:  # the SDK and its transport raise many kinds
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = "Start Docker to rerun trials in containers; everything else works without it."
        return Diagnosis("Docker", False, first, remedy, needed=False)
    return Diagnosis("Docker", True, found, needed=False)


def _docker_version() -> str:
    import docker

    _knock(os.environ.get("DOCKER_HOST") or DOCKER_SOCKET)
    client = docker.from_env(timeout=DOCKER_TIMEOUT_S)
    try:
        return str(client.version()["Version"])
    finally:
        client.close()


def _knock(address: str) -> None:
    """Raises `OSError` where nobody listens: the SDK would leave its socket open there."""
    scheme, _, path = address.partition("://")
    if scheme.endswith("unix"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(DOCKER_TIMEOUT_S)
            probe.connect("/" + path.lstrip("/"))
