"""A Ray for one sweep: started on this machine, or joined, and left without a trace.

Ray reads much of its behaviour from the environment when it is imported, so nothing here imports it
before that is set.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from service.plan.plan import SweepPlan
from service.slots.forking import forking
from service.slots.leftovers import end_leftovers, make_temporary, temporary_folder

BOARD = "board"

ENVIRONMENT = {
    # The first workers are this job's, so that they can be forked; see `local_ray`.
    "RAY_prestart_worker_first_driver": "0",
    # Workers at nice 15, Ray's default, starve beside anything else on the machine.
    "RAY_worker_niceness": "0",
    # A slot is several processes; Ray warns on the terminal when more start at once than it
    # expects.
    "RAY_worker_maximum_startup_concurrency": "64",
    # A busy machine takes more than the 30 s that Ray gives its own processes to start.
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # A worker that holds the interpreter's lock for ten minutes (the default) is not coming back.
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "5",
    # The driver tells the board of nodes that are about to go; a process less in each slot.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # Ray Train's controller does block there, and would say so in its log each time.
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
def ray_session(
    plan: SweepPlan, folder: Path, address: str | None, *, load: Callable[[], None]
) -> Iterator[None]:
    """Starts a Ray of the plan's size on this machine (`address` None), or joins the one at
    `address`. `load`: imports what trials need beside Ray, for all processes here.

    The caller holds the sweep's lock, so whatever still runs under this sweep's temporary folder
    belongs to a driver that was killed, and is ended first. Raises `JobError` when this Ray breaks
    under the sweep.
    """
    if address is None:
        with _own_ray(plan, folder, load):
            yield
        return
    _set(ENVIRONMENT)
    from service.slots.connection import connected_to_cluster, ray_errors_explained

    with (
        connected_to_cluster(address, namespace=namespace_of(plan.sweep_id)),
        ray_errors_explained(plan.sweep_id),
    ):
        yield


@contextmanager
def _own_ray(plan: SweepPlan, folder: Path, load: Callable[[], None]) -> Iterator[None]:
    # A token of this process's own: nobody else on the machine can talk to its Ray, and no file is
    # left. Ray remembers the first one of a process, so a second sweep must have the same.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    _set(ENVIRONMENT | token)
    temporary = temporary_folder(folder)
    end_leftovers(temporary)
    make_temporary(temporary)
    with forking(temporary, load) as forks:
        # This loads Ray, while the other process loads all that workers need.
        from service.slots.connection import connected_to_own, ray_errors_explained

        with (
            connected_to_own(plan, temporary, namespace=namespace_of(plan.sweep_id), forks=forks),
            ray_errors_explained(plan.sweep_id),
        ):
            yield
    end_leftovers(temporary)


def _set(settings: dict[str, str]) -> None:
    os.environ |= {name: value for name, value in settings.items() if name not in os.environ}
