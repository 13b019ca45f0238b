"""This process's connection to Ray. Imported once the environment is set, see `session`."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ray

from service.errors import JobError
from service.plan.plan import SweepPlan
from service.slots.forking import ForkServer
from service.slots.local_ray import given_to_workers, load_slots, start_node


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
def connected_to_own(
    plan: SweepPlan, temporary: Path, *, namespace: str, forks: ForkServer
) -> Iterator[None]:
    """Starts a Ray with its files in `temporary`, whose workers `forks` makes, connects this
    process to it, and ends it."""
    with ExitStack() as stack:
        with start_errors_explained(
            "a Ray must start on this machine", "Is it full, or busy with other work?"
        ):
            node = start_node(plan, temporary)
            stack.callback(node.kill_all_processes, check_alive=False, allow_graceful=True)
            ray.init(
                address=node.gcs_address,
                namespace=namespace,
                log_to_driver=False,
                logging_level="ERROR",
            )
            stack.callback(ray.shutdown)
            forks.tell(given_to_workers(node), load_slots)
            # Ray opens its folders to everyone, for clusters that several users share.
            temporary.chmod(0o700)
        yield


@contextmanager
def connected_to_cluster(address: str, *, namespace: str) -> Iterator[None]:
    """Connects this process to the Ray at `address`, and disconnects it in the end."""
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
