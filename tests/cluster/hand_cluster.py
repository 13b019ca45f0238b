"""A Ray of several nodes on this machine, started by hand as the README says: one head without a
CPU for trials, and workers that can be killed."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
OBJECT_STORE = "--object-store-memory=100000000"


class HandCluster:
    """`address` is what drivers join, `dashboard` what submitters talk to; `agent_port` is that of
    each node's agent, a free one by default."""

    def __init__(self, agent_port: int | None = None) -> None:
        self._agent_port = agent_port
        self.folder = Path(tempfile.mkdtemp(prefix="kdc-", dir="/tmp"))
        self._ports = {"port": free_port(), "dashboard-port": free_port()}
        self.address = f"127.0.0.1:{self._ports['port']}"
        self.dashboard = f"http://127.0.0.1:{self._ports['dashboard-port']}"
        self.environment = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_worker_niceness": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_maximum_startup_concurrency": "64",
            # Marks every process of this cluster: what is not ours is never ended.
            "KD_SWEEP_TEST_CLUSTER": str(self.folder),
        }

    def start(self, nodes: int) -> None:
        """Starts the head and so many nodes of one CPU."""
        ports = [f"--{name}={port}" for name, port in self._ports.items()]
        self._ray(["--head", *ports, "--num-cpus=0"], "head")
        for number in range(nodes):
            self.add_node(f"node-{number}")

    def add_node(self, name: str) -> None:
        """Starts another node of one CPU."""
        self._ray([f"--address={self.address}", "--num-cpus=1"], name)

    def kill_node(self, name: str) -> int:
        """SIGKILLs the node's raylet and, as a lost machine would, all of its workers; returns how
        many processes that were, 0 of a node that has left already."""
        mark = f"raylet_socket_name={self.folder / name}/"
        raylets = [pid for pid in self._ours() if mark in command(pid)]
        found = [pid for raylet in raylets for pid in (raylet, *descendants(raylet))]
        for pid in found:
            end(pid)
        return len(found)

    def announce_end(self, name: str, *, deadline_s: int) -> None:
        """Tells Ray, as a cloud does, that the node of this name is to be taken away."""
        sockets = self.ask("{n['RayletSocketName']: n['NodeID'] for n in ray.nodes()}")
        (node,) = [sockets[path] for path in sockets if f"{self.folder / name}/" in path]
        subprocess.run(
            [str(BIN / "ray"), "drain-node", f"--address={self.address}", f"--node-id={node}"]
            + ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot"]
            + [f"--deadline-remaining-seconds={deadline_s}"],
            env=os.environ | self.environment,
            check=True,
            capture_output=True,
        )

    def kill_like(self, words: str) -> bool:
        """SIGKILLs one process of the cluster whose command line holds `words`."""
        for pid in self._ours():
            if words in command(pid):
                end(pid)
                return True
        return False

    def ask(self, expression: str) -> Any:
        """What the Python expression is worth in a process that has joined the cluster."""
        text = f"import json, ray; ray.init('{self.address}', logging_level='ERROR'); "
        done = subprocess.run(
            [sys.executable, "-c", f"{text} print(json.dumps({expression}))"],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1])

    def stop(self) -> None:
        """Ends everything of this cluster and removes its folder."""
        for pid in self._ours():
            end(pid)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ray(self, arguments: list[str], name: str) -> None:
        done = subprocess.run(
            [str(BIN / "ray"), "start", *arguments, OBJECT_STORE, "--disable-usage-stats"]
            # Ray's own port for it may be taken by another cluster on this machine, and without its
            # agent a head takes no job.
            + [f"--dashboard-agent-listen-port={self._agent_port or free_port()}"]
            + [f"--temp-dir={self.folder / name}"],
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout

    def _ours(self) -> list[int]:
        mark = f"KD_SWEEP_TEST_CLUSTER={self.folder}"
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [pid for pid in pids if pid != os.getpid() and mark in environment(pid)]


@contextlib.contextmanager
def running_cluster(nodes: int = 2, agent_port: int | None = None) -> Iterator[HandCluster]:
    """A head and so many nodes of one CPU for as long as the context lasts."""
    made = HandCluster(agent_port)
    try:
        made.start(nodes)
        yield made
    finally:
        made.stop()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def descendants(pid: int) -> list[int]:
    """Children of the process, and theirs."""
    path = Path(f"/proc/{pid}/task")
    children = [int(word) for each in path.glob("*/children") for word in _words(each)]
    return children + [below for child in children for below in descendants(child)]


def end(pid: int) -> None:
    """SIGKILLs the process if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def command(pid: int) -> str:
    """The process's command line, empty when it is gone."""
    return _read(pid, "cmdline")


def environment(pid: int) -> str:
    """The environment the process was started with, empty when it is gone or not ours to read."""
    return _read(pid, "environ")


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _read(pid: int, name: str) -> str:
    try:
        return (
            Path(f"/proc/{pid}/{name}").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:
        return ""
