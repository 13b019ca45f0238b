"""Makes this folder's helpers importable, as `pythonpath` does for those of `tests`, and starts
clusters and drivers."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hand_cluster import HandCluster, running_cluster  # path above
from sweep_process import SweepProcess  # path above
from whole import STEP_S, Start, document  # path above


@pytest.fixture
def cluster() -> Iterator[HandCluster]:
    with running_cluster() as made:
        yield made


@pytest.fixture
def start(cluster: HandCluster, tmp_path: Path) -> Iterator[Start]:
    """Starts a driver of the sweep `name` on the cluster."""
    sweeps: list[SweepProcess] = []

    def begin(name: str, **order: object) -> SweepProcess:
        order = {"address": cluster.address, "step_s": STEP_S, "document": document()} | order
        sweeps.append(SweepProcess(tmp_path, name, cluster.environment, **order))
        return sweeps[-1]

    yield begin
    for sweep in sweeps:
        sweep.close()
