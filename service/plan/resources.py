"""What the machine or cluster has for a sweep: CPUs, GPUs, memory, disk."""

import os
import shutil
import subprocess
from pathlib import Path

from service.plan.estimates import Frozen

GPU_LIST_TIMEOUT_S = 10


class Resources(Frozen):
    """What the machine or cluster has. memory and disk_free in bytes."""

    num_cpus: float
    num_gpus: float = 0
    memory: int | None = None
    disk_free: int | None = None


def local_resources(folder: Path) -> Resources:
    """Returns this machine's CPUs (of this process), GPUs, memory, and free disk at `folder`."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Resources(
        num_cpus=count_cpus(),
        num_gpus=count_gpus(),
        memory=memory,
        disk_free=free_bytes(folder),
    )


def count_cpus() -> int:
    """Returns the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_gpus() -> int:
    """Returns the number of NVIDIA GPUs that this process may use, without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    listed = subprocess.run(
        [tool, "-L"], capture_output=True, text=True, timeout=GPU_LIST_TIMEOUT_S, check=False
    )
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def free_bytes(folder: Path) -> int:
    """Returns the free bytes of the disk that holds `folder`, or would hold it."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free
