"""What the machine or cluster has for a sweep (CPUs, GPUs, memory, disk), and whether the sweep
fits into it."""

import os
import shutil
import subprocess
from pathlib import Path

from service.errors import PlanError
from service.plan.estimates import Estimate
from service.spec.document import SweepSpec
from service.words import GIB, MIB
from trainers.trial.strict import Strict

GPU_LIST_TIMEOUT_S = 10


class Resources(Strict):
    """What the machine or cluster has. memory and disk_free in bytes; gpu_memory: of its smallest
    GPU, where that is known."""

    num_cpus: float
    num_gpus: float = 0
    memory: int | None = None
    disk_free: int | None = None
    gpu_memory: int | None = None


def local_resources(folder: Path) -> Resources:
    """Returns this machine's CPUs (of this process), GPUs, memory, and free disk at `folder`."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Resources(
        num_cpus=count_cpus(),
        num_gpus=count_gpus(),
        memory=memory,
        disk_free=free_bytes(folder),
        gpu_memory=smallest_gpu(),
    )


def count_cpus() -> int:
    """Returns the number of CPUs that this process may use."""
    # A container or a scheduler may allow fewer than the machine has; macOS cannot say.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_gpus() -> int:
    """Returns the number of NVIDIA GPUs that this process may use, without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return sum(line.startswith("GPU ") for line in _ask_driver("-L"))


def smallest_gpu() -> int | None:
    """Returns the bytes of the smallest of this machine's NVIDIA GPUs, None for none."""
    if not count_gpus():
        return None
    answers = _ask_driver("--query-gpu=memory.total", "--format=csv,noheader,nounits")
    sizes = [int(line) for line in answers if line.strip().isdigit()]
    return min(sizes) * MIB if sizes else None


def _ask_driver(*arguments: str) -> list[str]:
    """Returns the lines that NVIDIA's tool answers; none where it is not installed."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    answer = subprocess.run(
        [tool, *arguments], capture_output=True, text=True, timeout=GPU_LIST_TIMEOUT_S, check=False
    )
    return answer.stdout.splitlines()


def free_bytes(folder: Path) -> int:
    """Returns the free bytes of the disk that holds `folder`, or would hold it."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def count_slots(spec: SweepSpec, cluster: Resources, *, gpus_per_worker: float, trials: int) -> int:
    """Returns how many trials run at once. Raises `PlanError` when the machine never holds them."""
    asked = spec.resources
    workers = asked.workers_per_trial
    needs = (
        ("cpus", workers * asked.cpus_per_worker, cluster.num_cpus),
        ("gpus", workers * gpus_per_worker, cluster.num_gpus),
    )
    # As many as fit where the sweep does not say; one at least, so that the error below can name
    # what is missing for it.
    fitting = int(min(have // need for _, need, have in needs if need > 0))
    slots = min(asked.slots or max(1, fitting), trials)
    for kind, need, have in needs:
        if slots * need > have:
            raise PlanError(
                f"resources: slots x workers_per_trial x {kind}_per_worker <= {have:g} (this "
                f"machine's) must hold, but got {slots} x {workers} x {need / workers:g} = "
                f"{slots * need:g}. Lower one of them, or run on a larger machine."
            )
    return slots


def check_builder(spec: SweepSpec, cluster: Resources) -> None:
    """Raises `PlanError` when the machine never holds the teacher while its cache is built."""
    needed = spec.teacher_cache.gpus
    if needed > max(1, cluster.num_gpus):
        raise PlanError(
            f"teacher_cache.gpus: it must be at most the {cluster.num_gpus:g} GPUs that are here, "
            f"but got {needed}. Lower it, or run on a larger machine."
        )


def check_disk(estimate: Estimate, cluster: Resources, *, cache_is_elsewhere: bool) -> None:
    """Raises `PlanError` when the disk does not hold what the sweep writes. cache_is_elsewhere: the
    teacher's cache is on another disk."""
    needed = estimate.disk_bytes
    if cache_is_elsewhere:
        needed -= estimate.teacher_cache_bytes or 0
    if cluster.disk_free is not None and needed > cluster.disk_free:
        raise PlanError(
            f"storage.path: the free disk must hold checkpoints and teacher cache, about "
            f"{needed / GIB:.1f} GiB, but got {cluster.disk_free / GIB:.1f} GiB free. "
            "Free some, name another storage.path, or lower trials."
        )
