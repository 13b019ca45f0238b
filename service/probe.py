"""Whether every node sees the sweep's folder: a checkpoint written on one is read on another."""

import uuid
from pathlib import Path
from typing import Any

from service.errors import PlanError

TIMEOUT_S = 60


def check_storage_is_shared(folder: Path) -> None:
    """Looks for a fresh file of the sweep's folder from each node of the cluster that this process
    has joined. Raises `PlanError` with the nodes that do not see it."""
    import ray

    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if len(nodes) < 2:
        return
    path = folder / f"probe-{uuid.uuid4().hex}"
    path.write_text(path.name)
    try:
        blind = [nodes[node] for node, sees in _asked(path, list(nodes)).items() if not sees]
    finally:
        path.unlink()
    if blind:
        raise PlanError(
            f"storage.path: every node must see {folder}, but {', '.join(blind)} did not. Name a "
            "folder that is mounted on all nodes, or run with nodes that have it."
        )


def _asked(path: Path, nodes: list[str]) -> dict[str, bool]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task: Any = ray.remote(num_cpus=0, max_retries=2)(sees)
    answers = {
        node: task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(str(path))
        for node in nodes
    }
    ready, _ = ray.wait(list(answers.values()), num_returns=len(answers), timeout=TIMEOUT_S)
    return {node: answer in ready and ray.get(answer) for node, answer in answers.items()}


def sees(path: str) -> bool:
    """Whether this machine reads the file as it was written."""
    file = Path(path)
    return file.exists() and file.read_text() == file.name
