"""A Ray for one sweep: started on this machine, or joined, and left without a trace.

Ray and MLflow read much of their behaviour from the environment when they are imported, so it is
set here first.
"""

import fcntl
import hashlib
import json
import math
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.errors import JobError
from service.plan.plan import SweepPlan

LOCAL = "local"
BOARD = "board"
OBJECT_STORE_BYTES = 256 * 1024**2
# Ray puts sockets below its folder, and a socket's path has 107 characters at most.
LONGEST_TEMP = 35

ENVIRONMENT = {
    # Workers at nice 15, Ray's default, starve beside anything else on the machine.
    "RAY_worker_niceness": "0",
    # A slot is several processes; Ray warns on the terminal when more start at once than it
    # expects.
    "RAY_worker_maximum_startup_concurrency": "64",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # A worker that holds the interpreter's lock for ten minutes (the default) is not coming back.
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "5",
    # The board itself hears of nodes that are about to go; a process less in each slot.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # Ray Train's controller does, and says so in its log as often.
    "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    # A slot's thread that outlives Ray must not start or join another one.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Tune's newer display prints tables at any verbosity.
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def namespace_of(sweep_id: str) -> str:
    """Returns the sweep's namespace of named Ray actors."""
    return f"kd-sweep-{sweep_id}"


@contextmanager
def sweep_lock(folder: Path) -> Iterator[None]:
    """Holds the sweep's folder for one driver. Raises `JobError` when another one has it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "driver.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise JobError(
                f"sweep {folder.name}: one driver at a time must hold, but got one that runs "
                f"already: {file.read().strip() or 'unknown'}. Wait for it, or stop it first."
            ) from error
        file.truncate(0)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        file.flush()
        yield


@contextmanager
def ray_session(plan: SweepPlan, folder: Path, address: str | None) -> Iterator[None]:
    """Starts a Ray of the plan's size on this machine (`address` None), or joins the one at
    `address`.

    The caller holds the sweep's lock, so whatever still runs under this sweep's temporary folder
    belongs to a driver that was killed, and is ended first. Raises `JobError` when this Ray breaks
    under the sweep.
    """
    os.environ |= {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    with _at_hand(plan, folder, address), _explained(plan):
        yield


@contextmanager
def _explained(plan: SweepPlan) -> Iterator[None]:
    """Says in one sentence what a Ray that broke, or answers no more, means for the sweep."""
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines()
        raise JobError(
            f"sweep {plan.sweep_id}: Ray must stay up while it runs, but got "
            f"{type(error).__name__}: {lines[0] if lines else ''} What is finished is kept; go on "
            f"with: kd-sweep resume {plan.sweep_id}."
        ) from error


@contextmanager
def _at_hand(plan: SweepPlan, folder: Path, address: str | None) -> Iterator[None]:
    if address is not None:
        with _joined(plan, address):
            yield
        return
    temporary = temporary_folder(folder)
    end_leftovers(temporary)
    # A token of this process's own: nobody else on the machine can talk to its Ray, and no file is
    # left. Ray remembers the first one that a process has, so a second sweep must have the same.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with _started(plan, temporary):
        yield
    shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _started(plan: SweepPlan, temporary: Path) -> Iterator[None]:
    import ray

    workers = plan.slots * plan.workers_per_trial
    with _starting("a Ray must start on this machine", "Is it full, or busy with other work?"):
        ray.init(
            address=LOCAL,
            num_cpus=max(1, math.ceil(workers * plan.cpus_per_worker)),
            namespace=namespace_of(plan.sweep_id),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=str(temporary),
        )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _joined(plan: SweepPlan, address: str) -> Iterator[None]:
    import ray

    with _starting(f"a Ray must answer at {address}", "Does the cluster still run?"):
        ray.init(
            address=address,
            namespace=namespace_of(plan.sweep_id),
            log_to_driver=False,
            logging_level="ERROR",
        )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _starting(rule: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Ray raises bare exceptions, and several kinds of them
        lines = str(error).strip().splitlines()
        raise JobError(
            f"cluster: {rule}, but got {type(error).__name__}: {lines[0] if lines else ''} {remedy}"
        ) from error


def start_board() -> Any:
    """Starts the sweep's board and returns its handle. It stays on this process's own node: Ray
    puts an actor that asks for nothing on any, also on one that goes tomorrow."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from service.slots.board import Board

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(num_cpus=0, max_concurrency=10_000)(Board)
    return actor.options(name=BOARD, scheduling_strategy=here).remote()


def draining_nodes() -> set[str]:
    """Returns the ids of nodes whose end is announced: preempted spot machines, nodes scaled
    away."""
    from ray._private.state import state

    return set(state.get_draining_nodes())


def temporary_folder(folder: Path) -> Path:
    """Returns where the Ray of the sweep in `folder` keeps sockets and logs on this machine."""
    base = tempfile.gettempdir()
    base = base if len(base) <= LONGEST_TEMP else "/tmp"
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    return Path(base) / f"kd-{os.getuid()}-{key}"


def end_leftovers(temporary: Path) -> int:
    """Kills processes whose command line names `temporary`, and removes it; returns how many there
    were."""
    found = [pid for pid in _processes() if str(temporary) in _command(pid)]
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(temporary, ignore_errors=True)
    return len(found)


def _processes() -> list[int]:
    proc = Path("/proc")
    if not proc.is_dir():
        return []
    return [int(p.name) for p in proc.iterdir() if p.name.isdigit() and int(p.name) != os.getpid()]


def _command(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:  # the process ended meanwhile
        return ""
