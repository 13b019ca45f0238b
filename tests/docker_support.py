"""What the Docker tests share: how an image of the project is built on this machine.

Where pip here reads packages from local folders, a build reads them too: they are served on
localhost for as long as the builds last, and named by build arguments, so that no address stays in
an image.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from docker import DockerClient

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 240  # of a command on this machine
PORT = 18573  # the same at each run, as the builder's cache goes by the arguments' values
# pip's setting: the build argument that carries it
SETTINGS = {
    "index-url": "PIP_INDEX_URL",
    "extra-index-url": "PIP_EXTRA_INDEX_URL",
    "find-links": "PIP_FIND_LINKS",
    "trusted-host": "PIP_TRUSTED_HOST",
    "cert": "PIP_CERT",
}

TRAINING_STEPS = 8
# Makes of the preset `demo` a sweep of seconds: arguments of `run` and `submit`.
TINY_SWEEP = [
    f"--set={override}"
    for override in (
        "trials=2",
        "controls=none",
        "early_stopping={kind: none}",
        "resources.slots=1",
        "teacher.fit.steps=8",
        "student.fit.steps=4",
        f"training.steps={TRAINING_STEPS}",
        "data.max_train_examples=200",
        "data.max_validation_examples=32",
        "evaluation.evaluations=2",
        "evaluation.generation_prompts=4",
    )
]


def pip_settings() -> dict[str, list[str]]:
    """pip's settings that decide where packages come from, out of its files and the environment."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in SETTINGS:
            known = found.setdefault(name, [])
            known.extend(entry for entry in value.strip("'\"").split() if entry not in known)
    return found


def local_folder(address: str) -> Path | None:
    """The folder that `address` names on this machine; None for an address on the network."""
    if address.startswith("file:"):
        return Path(unquote(urlsplit(address).path))
    return Path(address) if address.startswith("/") and Path(address).is_dir() else None


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a line of log per request."""

    def log_message(self, format: str, *args: Any) -> None:
        return None


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address under which this machine reads `folder` as long as the context lasts."""
    handler = partial(Quiet, directory=str(folder))
    try:
        server = ThreadingHTTPServer(("127.0.0.1", PORT), handler)
    except OSError:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def pip_build_arguments(room: Path) -> Iterator[dict[str, str]]:
    """Build arguments that let a build on the host's network install what pip installs here.

    An index in a folder links to its neighbours, so the folder's parent is what is served, through
    links in `room`.
    """
    settings = pip_settings()
    with served(room) as address:
        arguments = {}
        for name, entries in settings.items():
            values = [as_seen_by_a_build(entry, address, room) for entry in entries]
            arguments[SETTINGS[name]] = " ".join(values)
        yield arguments


def as_seen_by_a_build(entry: str, address: str, room: Path) -> str:
    folder = local_folder(entry)
    if folder is None:
        return entry
    link = room / "-".join(folder.parent.parts[1:])
    if not link.exists():
        link.symlink_to(folder.parent)
    return f"{address}/{link.name}/{folder.name}/"


class Builder:
    """Builds images on `engine`; one without a default network builds on the host's."""

    def __init__(self, engine: "DockerClient", arguments: dict[str, str]) -> None:
        self.engine = engine
        self.arguments = arguments
        names = {network.name for network in engine.networks.list()}
        self.network = None if "bridge" in names else "host"

    def build(
        self, tag: str, context: Path = ROOT, dockerfile: str = "docker/Dockerfile", **values: str
    ) -> str:
        """Returns `tag` once the image of that name is built; the builder's log is in the error."""
        from docker.errors import BuildError

        try:
            self.engine.images.build(
                path=str(context),
                dockerfile=dockerfile,
                tag=tag,
                buildargs=self.arguments | values,
                network_mode=self.network,
                rm=True,
            )
        except BuildError as error:
            log = "".join(str(line.get("stream", "")) for line in error.build_log)
            raise AssertionError(f"{dockerfile} did not build: {error}\n{log[-3000:]}") from error
        return tag


@dataclass(frozen=True)
class Recorded:
    """A sweep that ran in the image: the home of its files, the same here and there; its best
    trial as `best` shows it."""

    home: Path
    best: dict[str, Any]

    @property
    def trial(self) -> str:
        return f"{self.best['sweep_id']}/{self.best['trial']}"

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """kd-sweep on this machine, outside any container, with the sweep's home."""
        return subprocess.Popen(
            [sys.executable, "-m", "service", *arguments],
            cwd=ROOT,
            env=os.environ | {"KD_SWEEP_HOME": str(self.home)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Tests that run in the background hand down a Ctrl-C that is ignored.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def ask(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        with self.start(*arguments, **environment) as process:
            out, err = process.communicate(timeout=TIMEOUT_S)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def states(self) -> list[str]:
        """The states of all runs, as MLflow has them."""
        script = (
            "import sqlite3, sys, json;"
            "print(json.dumps([s for s, in sqlite3.connect(sys.argv[1]).execute("
            "'select status from runs')]))"
        )
        command = [sys.executable, "-c", script, str(self.home / "mlflow.db")]
        return list(json.loads(subprocess.check_output(command)))


def in_the_image(engine: "DockerClient", image: str, home: Path, *command: str) -> Any:
    """The JSON that kd-sweep prints in a container without network or writable root."""
    environment = {
        "KD_SWEEP_HOME": str(home),
        "KD_SWEEP_IMAGE_DIGEST": str(engine.images.get(image).id),
    }
    printed = engine.containers.run(
        image,
        ["kd-sweep", *command, "--json"],
        environment=environment,
        user=f"{os.getuid()}:{os.getgid()}",
        working_dir=str(home),
        network_mode="none",
        read_only=True,
        remove=True,
        init=True,
        shm_size="512m",
        tmpfs={"/tmp": "exec,mode=1777"},
        volumes={str(home): {"bind": str(home), "mode": "rw"}},
        stderr=False,
    )
    return json.loads(printed)
