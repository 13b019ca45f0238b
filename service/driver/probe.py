"""Whether every node sees the sweep's storage: a checkpoint written on one is read on another.

A folder that only looks shared (each node has one of this name) would not be noticed before a trial
moves: its checkpoints would be missing and it would silently start from its first step.
"""

import posixpath
import uuid
from pathlib import Path
from typing import Any

from service.errors import PlanError
from trainers.files.urls import file_system

TIMEOUT_S = 60


def check_storage_is_shared(place: Path | str) -> None:
    """Writes a file to the sweep's folder, or to the store at a URL, and has each node of the
    cluster that this process has joined read it. Raises `PlanError` with the nodes that do not see
    it."""
    import ray

    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if len(nodes) < 2:
        return
    path = f"{place}/probe-{uuid.uuid4().hex}"
    _write(path)
    try:
        blind = [nodes[node] for node, sees in _answers(path, list(nodes)).items() if not sees]
    finally:
        _remove(path)
    if blind:
        raise PlanError(
            f"storage.path: every node must see {place}, but {', '.join(blind)} did not. Name a "
            "folder that is mounted on all nodes, or run with nodes that have it."
        )


def check_store_answers(url: str) -> None:
    """Writes to the store at `url` and reads it back. Raises `PlanError` with what it answered."""
    path = f"{url}/probe-{uuid.uuid4().hex}"
    try:
        _write(path)
        found = sees(path)
        _remove(path)
    except Exception as error:  # every kind of store has errors of its own
        raise PlanError(
            f"storage.path: {url} must take and give files, but got {type(error).__name__}: "
            f"{error}. Install what fsspec needs for it (s3fs, gcsfs, …) and set its credentials "
            "where trials run, or name a folder."
        ) from error
    if not found:
        raise PlanError(f"storage.path: {url} must give back what it took, but did not.")


def _write(path: str) -> None:
    system, root = file_system(path)
    system.makedirs(posixpath.dirname(root), exist_ok=True)
    system.pipe_file(root, posixpath.basename(path).encode())


def _remove(path: str) -> None:
    system, root = file_system(path)
    system.rm_file(root)


def _answers(path: str, nodes: list[str]) -> dict[str, bool]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task: Any = ray.remote(num_cpus=0, max_retries=2)(sees)
    answers = {
        node: task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(path)
        for node in nodes
    }
    # A node may be gone, or too busy to start a process: it counts as one that sees nothing.
    ready, _ = ray.wait(list(answers.values()), num_returns=len(answers), timeout=TIMEOUT_S)
    return {node: answer in ready and ray.get(answer) for node, answer in answers.items()}


def sees(path: str) -> bool:
    """Whether this machine reads the file (a path or URL) as it was written."""
    system, root = file_system(path)
    return bool(system.exists(root)) and system.cat_file(root) == posixpath.basename(path).encode()
