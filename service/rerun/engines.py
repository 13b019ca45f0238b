"""Where a trial is run again: in this environment, or in a container. Both run `python -m
trainers`, in a folder that holds the trial's file and takes its output.

What a container sees:

| in the container | of this machine | may it write? |
|---|---|---|
| `/room` | the rerun's folder: trial.json, then out/ | yes |
| `/inputs/NAME` | the input of that name: teacher, student, data, … | no |
| `/tmp` | nothing: memory, its home and the libraries' caches | yes |
| all else | the image | no |

It runs as this user, so that what it writes can be removed afterwards, and without a network: a
trial that needs anything but its recorded inputs fails instead of giving other numbers.
"""

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from service.errors import PlanError, TrialError
from service.provenance import IMAGE_VARIABLE
from trainers.files.lines import numbered_lines

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

OnLine = Callable[[str], None]
LAST_LINES = 15
# What the launcher of several workers says once one of them has failed: long, and not the reason.
LAUNCHER, WHO_FAILED = "torch/distributed/elastic/", "failed (exitcode:"
# A trial that takes all memory is ended by its own limit before the machine ends other processes.
MEMORY_SHARE = 0.9
MAX_PROCESSES = 2048
KILLED = 137  # 128 + SIGKILL, as Docker and shells report it
# Where a container sees the folder that the trial runs in, which it may write, and its inputs,
# which it may not.
FOLDER_MOUNT, INPUTS_MOUNT = "/room", "/inputs"
LABEL = "kd-sweep.rerun"
# What is asked in the environment itself; the names of the libraries are its arguments.
FACTS_CODE = """
import json, sys, torch
from importlib.metadata import PackageNotFoundError, version
from service.provenance import provenance
def known(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
facts = {f"provenance.{name}": text for name, text in provenance().items()}
facts |= {f"versions.{name}": known(name) for name in sys.argv[1:]}
facts["numerics.cpu_capability"] = torch.backends.cpu.get_cpu_capability()
print(json.dumps(facts))
"""


@dataclass(frozen=True)
class ProcessEnd:
    """How the process ended: its exit code and the last lines it wrote."""

    code: int
    last_lines: str


class Engine(Protocol):
    """An environment in which a trial can be run again."""

    def paths(self, inputs: Mapping[str, Path]) -> dict[str, str]:
        """Returns the place of each input as the trial's process will see it."""
        ...

    def facts(self, libraries: Sequence[str]) -> dict[str, str]:
        """Returns what this environment is, by the names that trials record."""
        ...

    def close(self) -> None:
        """Gives back what the engine holds."""

    def train(
        self, folder: Path, arguments: Sequence[str], *, workers: int, on_line: OnLine
    ) -> ProcessEnd:
        """Runs `python -m trainers` with `arguments`, whose paths are relative to `folder`, and
        passes on each line it writes. Ends it when interrupted.
        """
        ...


class LocalEngine:
    """This environment."""

    def close(self) -> None:
        """Holds nothing."""

    def paths(self, inputs: Mapping[str, Path]) -> dict[str, str]:
        """Returns the folders themselves."""
        return {name: str(folder) for name, folder in inputs.items()}

    def facts(self, libraries: Sequence[str]) -> dict[str, str]:
        """Returns what a fresh process of this Python says. Raises `TrialError` when it fails."""
        command = [sys.executable, "-c", FACTS_CODE, *libraries]
        done = subprocess.run(command, capture_output=True, text=True, env=_environment())
        return _facts(done.stdout, done.returncode, done.stderr)

    def train(
        self, folder: Path, arguments: Sequence[str], *, workers: int, on_line: OnLine
    ) -> ProcessEnd:
        """Runs the trial as a child process."""
        command = [sys.executable, *launcher(workers), *arguments]
        last: deque[str] = deque(maxlen=LAST_LINES)
        with subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environment(),
        ) as process:
            try:
                for line in process.stdout or ():
                    _pass_on(line.rstrip(), last, on_line)
            # Ctrl-C too, after which leaving the `with` waits for a quarter of a second only.
            except BaseException:
                process.terminate()
                process.wait()
                raise
        return ProcessEnd(process.returncode, "\n".join(last))


@dataclass(frozen=True)
class DockerEngine:
    """A container of `image`: no network, a read-only root, bounded memory and processes. Made by
    `docker_engine`."""

    client: "DockerClient"
    image: str
    inputs: Mapping[str, Path]
    cpus: float
    gpu: bool

    def close(self) -> None:
        """Closes the connection to Docker."""
        self.client.close()

    def paths(self, inputs: Mapping[str, Path]) -> dict[str, str]:
        """Returns where the inputs are mounted."""
        return {name: f"{INPUTS_MOUNT}/{name}" for name in inputs}

    def facts(self, libraries: Sequence[str]) -> dict[str, str]:
        """Returns what the image says. Raises `TrialError` when it is no image of this project."""
        with self._container(["python", "-c", FACTS_CODE, *libraries], None) as container:
            # parts of the stream, which may end inside a line or a character
            logged = b"".join(container.logs(stream=True, follow=True, stdout=True, stderr=True))
            code = container.wait()["StatusCode"]
        lines = [line.decode(errors="replace") for _, line in numbered_lines(logged)]
        return _facts(lines[-1] if lines else "", code, "\n".join(lines[-LAST_LINES:]))

    def train(
        self, folder: Path, arguments: Sequence[str], *, workers: int, on_line: OnLine
    ) -> ProcessEnd:
        """Runs the trial in a container that is gone afterwards, whatever happens."""
        last: deque[str] = deque(maxlen=LAST_LINES)
        with self._container(["python", *launcher(workers), *arguments], folder) as container:
            # Docker sends chunks, which end anywhere in a line.
            rest = ""
            for text in container.logs(stream=True, follow=True):
                *lines, rest = (rest + text.decode(errors="replace")).split("\n")
                for line in lines:
                    _pass_on(line.rstrip(), last, on_line)
            code = int(container.wait()["StatusCode"])
        return ProcessEnd(code, "\n".join(last))

    @contextmanager
    def _container(self, command: list[str], folder: Path | None) -> "Iterator[Container]":
        with _docker_errors("accept the container"):
            container = self.client.containers.create(self.image, command, **self._settings(folder))
        try:
            with _docker_errors("run the container"):
                container.start()
                yield container
        # Also when interrupted: `force` kills a container that is still running.
        finally:
            with _docker_errors("remove the container"):
                container.remove(force=True)

    def _settings(self, folder: Path | None) -> dict[str, Any]:
        from docker.types import DeviceRequest, Mount

        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        # As mounts, not as `source:target:mode`, where a folder's own colon would end its name.
        mounts = [
            Mount(f"{INPUTS_MOUNT}/{name}", str(source), type="bind", read_only=True)
            for name, source in self.inputs.items()
        ]
        if folder is not None:
            mounts.append(Mount(FOLDER_MOUNT, str(folder), type="bind"))
        requests = [DeviceRequest(count=-1, capabilities=[["gpu"]])] if self.gpu else []
        return {
            "detach": True,
            "entrypoint": [],  # the command is complete, whatever the image would start
            "mounts": mounts,
            "working_dir": FOLDER_MOUNT if folder is not None else "/",
            "environment": {"HOME": "/tmp", "HF_HUB_OFFLINE": "1", IMAGE_VARIABLE: self.image_id()},
            "user": f"{os.getuid()}:{os.getgid()}",
            "labels": {LABEL: "1"},
            "network_mode": "none",
            "read_only": True,
            # exec: what torch compiles, it loads from there.
            "tmpfs": {"/tmp": "exec,mode=1777"},
            "shm_size": "1g",
            "mem_limit": int(memory * MEMORY_SHARE),
            "nano_cpus": int(self.cpus * 1e9),
            "pids_limit": MAX_PROCESSES,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "device_requests": requests,
        }

    def image_id(self) -> str:
        """Returns the image's own digest."""
        return str(self.client.images.get(self.image).id)


def docker_engine(
    image: str, inputs: Mapping[str, Path], *, cpus: float, gpu: bool
) -> DockerEngine:
    """Returns an engine of containers of `image`. Raises `PlanError` when Docker does not answer or
    does not have the image, with what to do.
    """
    import docker
    from docker.errors import DockerException, ImageNotFound
    from requests.exceptions import RequestException

    try:
        client = docker.from_env()
    except (DockerException, RequestException, OSError, ValueError) as error:
        raise PlanError(
            f"rerun: a Docker engine must answer, but got: {error}. "
            "Start it, or rerun in this environment: --local."
        ) from error
    try:
        with _docker_errors(f"know the image '{image}'", unless=ImageNotFound):
            client.images.get(image)
    except PlanError:
        client.close()
        raise
    except ImageNotFound as error:
        client.close()
        raise PlanError(
            f"rerun: the image '{image}' must be on this machine, but it is not. "
            "Pull or build it (docker build --file docker/Dockerfile .), name another one with "
            "--image, or rerun in this environment: --local."
        ) from error
    return DockerEngine(client, image, inputs, cpus, gpu)


@contextmanager
def _docker_errors(task: str, unless: type[Exception] | None = None) -> Iterator[None]:
    """Turns what the engine answers (400, 500, or nothing any more) into `PlanError`, but `unless`
    of these."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except (DockerException, RequestException) as error:
        if unless is not None and isinstance(error, unless):
            raise
        raise PlanError(
            f"rerun: Docker must {task}, but got: {error}. Correct what it says, or rerun in this "
            "environment: --local."
        ) from error


def launcher(workers: int) -> list[str]:
    """Returns Python's arguments that start `trainers` in so many processes on this machine."""
    if workers == 1:
        return ["-m", "trainers"]
    place = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(workers)]
    return ["-m", "torch.distributed.run", *place, "-m", "trainers"]


def _pass_on(line: str, last: deque[str], on_line: OnLine) -> None:
    # The last lines become the error's text: the launcher's report would push the reason out.
    if WHO_FAILED in line or not any(LAUNCHER in kept for kept in last):
        last.append(line)
    on_line(line)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}


def _facts(text: str, code: int, output: str) -> dict[str, str]:
    try:
        if code == 0:
            found: dict[str, str] = json.loads(text.strip().split("\n")[-1])
            return found
    except (ValueError, IndexError) as error:
        output = f"{output}\n{error}"
    raise TrialError(
        f"rerun: the environment must hold kd-sweep and torch, but it ended with {code}:\n{output}"
    )
