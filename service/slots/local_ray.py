"""A Ray of one sweep on this machine, with the processes that a sweep needs of it."""

import math
import os
from importlib import import_module
from pathlib import Path

import ray.actor
from ray._private import ray_constants
from ray._private.node import Node
from ray._private.parameter import RayParams

from service.plan.plan import SweepPlan
from service.slots import forked_worker

# Slots pass small things on; data, models and checkpoints are files.
OBJECT_STORE_BYTES = 256 * 1024**2
# What the processes of slots and trials load that needs Ray.
OF_RAY = (
    "ray._private.workers.default_worker",
    "service.slots.board_actor",
    "service.slots.slots",
    "service.slots.trial",
)


class _Node(Node):  # type: ignore[misc]  # Ray has no types
    """A node without a dashboard, which nobody opens, and for which Ray would wait at its start."""

    def start_api_server(self, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
        """Starts nothing."""


def given_to_workers(node: Node) -> dict[str, str]:
    """Returns the variables that the node's raylet gives each worker of this process's job."""
    raylet = node.all_processes[ray_constants.PROCESS_TYPE_RAYLET][0].process
    return {
        "RAY_RAYLET_PID": str(raylet.pid),
        "RAY_JOB_ID": ray.get_runtime_context().get_job_id(),
    }


def load_slots() -> None:
    """Imports `OF_RAY`, in a process that is forked afterwards."""
    # Each class of an actor draws a number as it is made. Were that Ray's first random number, each
    # forked process would go on from there, and all give the same ids to different things.
    drawn, ray.actor.ActorClassID = ray.actor.ActorClassID, _ActorClasses
    try:
        for name in OF_RAY:
            import_module(name)
    finally:
        ray.actor.ActorClassID = drawn


class _ActorClasses:
    """Draws the numbers of actors' classes from the system."""

    @staticmethod
    def from_random() -> ray.actor.ActorClassID:
        return ray.ActorClassID(os.urandom(ray.ActorClassID.size()))


def start_node(plan: SweepPlan, temporary: Path) -> Node:
    """Returns a running node of the plan's size, with its sockets and logs in `temporary`."""
    workers = plan.slots * plan.workers_per_trial
    settings = RayParams(
        num_cpus=max(1, math.ceil(workers * plan.cpus_per_worker)),
        object_store_memory=OBJECT_STORE_BYTES,
        temp_dir=str(temporary),
        setup_worker_path=forked_worker.__file__,
        # Nothing scales, and nobody reads workers' logs on the terminal.
        no_monitor=True,
        include_log_monitor=False,
    )
    # Its processes end with this one, however that ends.
    return _Node(
        settings, head=True, shutdown_at_exit=False, spawn_reaper=True, ray_init_cluster=True
    )
