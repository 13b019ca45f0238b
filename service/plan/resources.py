"""What this machine has, where the user's things lie on it, and which code runs here."""

import hashlib
import os
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from service.plan.plan import Resources

HOME_VARIABLE = "KD_SWEEP_HOME"
PACKAGES = ("search_spaces", "service", "trainers")
GPU_LIST_TIMEOUT_S = 10


def home_folder() -> Path:
    """Returns the folder of everything that a user makes: KD_SWEEP_HOME, or ~/.kd-sweep."""
    return Path(os.environ.get(HOME_VARIABLE) or Path.home() / ".kd-sweep").expanduser().resolve()


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


def code_version() -> str:
    """Returns `version+hash` of the installed packages: the hash is over their sources' content."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        root = _folder_of(package)
        for path in sorted((*root.rglob("*.py"), *root.rglob("*.yaml"))):
            digest.update(f"{package}/{path.relative_to(root).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return f"{_release()}+{digest.hexdigest()[:12]}"


def _folder_of(package: str) -> Path:
    found = find_spec(package)
    assert found is not None and found.origin is not None
    return Path(found.origin).parent


def _release() -> str:
    try:
        return version("kd-sweep")
    except PackageNotFoundError:
        return "0"
