"""The board as a Ray actor, and what Ray says of nodes; for a process that is connected to Ray."""

from typing import Any

import ray
from ray._private.state import state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from service.slots.board import Board
from service.slots.session import BOARD


def start_board() -> Any:
    """Starts the sweep's board and returns its handle. It stays on this process's own node: Ray
    puts an actor that asks for nothing on any, also on one that goes tomorrow."""
    own_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # Long polls hold a call each: every rank has two, every trial one.
    actor = ray.remote(num_cpus=0, max_concurrency=10_000)(Board)
    return actor.options(name=BOARD, scheduling_strategy=own_node).remote()


def draining_nodes() -> set[str]:
    """Returns the ids of nodes whose end is announced: preempted spot machines, nodes scaled
    away."""
    # Not public in Ray; its own preemption watcher asks in this way, with a process for each slot.
    return set(state.get_draining_nodes())
