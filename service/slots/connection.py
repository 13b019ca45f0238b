"""This process's connection to Ray. Imported once the environment is set, see `session`."""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from service.errors import JobError
from service.plan.plan import SweepPlan
from service.slots.leftovers import end_leftovers, make_temporary, temporary_folder

# Said outright: without it Ray would join whatever RAY_ADDRESS, or a file of another Ray on this
# machine, names.
LOCAL = "local"
# Slots pass small things on; data, models and checkpoints are files.
OBJECT_STORE_BYTES = 256 * 1024**2


@contextmanager
def ray_errors_explained(sweep_id: str) -> Iterator[None]:
    """Says in one sentence what a Ray that broke, or no longer answers, means for the sweep."""
    try:
        yield
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines()
        raise JobError(
            f"sweep {sweep_id}: Ray must stay up while it runs, but got "
            f"{type(error).__name__}: {lines[0] if lines else ''} What is finished is kept; go on "
            f"with: kd-sweep resume {sweep_id}."
        ) from error


@contextmanager
def connected(
    plan: SweepPlan, folder: Path, address: str | None, *, namespace: str
) -> Iterator[None]:
    """Connects this process to a Ray of its own (`address` None) or to the one at `address`, and
    disconnects it in the end."""
    if address is not None:
        with _connected_to_cluster(address, namespace):
            yield
        return
    temporary = temporary_folder(folder)
    end_leftovers(temporary)
    make_temporary(temporary)
    with _connected_to_own(plan, temporary, namespace):
        yield
    shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _connected_to_own(plan: SweepPlan, temporary: Path, namespace: str) -> Iterator[None]:
    workers = plan.slots * plan.workers_per_trial
    with start_errors_explained(
        "a Ray must start on this machine", "Is it full, or busy with other work?"
    ):
        ray.init(
            address=LOCAL,
            num_cpus=max(1, math.ceil(workers * plan.cpus_per_worker)),
            namespace=namespace,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=str(temporary),
        )
        # Ray opens its folders to everyone, for clusters that several users share.
        temporary.chmod(0o700)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _connected_to_cluster(address: str, namespace: str) -> Iterator[None]:
    with start_errors_explained(f"a Ray must answer at {address}", "Does the cluster still run?"):
        ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def start_errors_explained(rule: str, remedy: str) -> Iterator[None]:
    """Says in one sentence why there is no Ray to connect to."""
    try:
        yield
    except Exception as error:  # Ray raises bare exceptions, and several kinds of them
        lines = str(error).strip().splitlines()
        raise JobError(
            f"cluster: {rule}, but got {type(error).__name__}: {lines[0] if lines else ''} {remedy}"
        ) from error
