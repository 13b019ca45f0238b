"""What a trial ran in: code, commit, locked libraries, image, machine. Read once a process."""

import hashlib
import os
import platform
import subprocess
import sysconfig
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path

IMAGE_VARIABLE = "KD_SWEEP_IMAGE_DIGEST"
COMMIT_VARIABLE = "KD_SWEEP_COMMIT"
DIRTY = "-dirty"
GIT_TIMEOUT_S = 10
CPU_FACTS = Path("/proc/cpuinfo")


@cache
def provenance() -> dict[str, str]:
    """Returns facts by name; one that cannot be known is left out.

    python, platform, cpu (its model), cpu_features (hash of its instruction sets), libraries (hash
    of every installed distribution's name and version), commit (with `-dirty` when the checkout was
    changed; outside a checkout the one that the image was built from, KD_SWEEP_COMMIT), image (the
    container image's digest, from KD_SWEEP_IMAGE_DIGEST).
    """
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_fact("model name"),
        "cpu_features": _short_hash(cpu_fact("flags")),
        "libraries": libraries_hash(),
        "commit": commit_of(Path(__file__).resolve().parents[1])
        or os.environ.get(COMMIT_VARIABLE, ""),
        "image": os.environ.get(IMAGE_VARIABLE, ""),
    }
    return {name: text for name, text in facts.items() if text}


def libraries_hash() -> str:
    """Returns a hash over the names and versions of all distributions in this environment's own
    folders: Ray, once imported, adds one more to the path."""
    folders = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    found = sorted({f"{one.name}=={one.version}" for one in distributions(path=folders)})
    return _short_hash("\n".join(found))


def commit_of(folder: Path) -> str:
    """Returns the commit that `folder` is a checkout of, marked when tracked files were changed;
    empty when it is no checkout of its own or git is not there."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != folder.resolve():
        return ""
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return commit + (DIRTY if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def cpu_fact(name: str, path: Path = CPU_FACTS) -> str:
    """Returns the first CPU's fact of that name from Linux's list, or an empty text elsewhere."""
    if not path.exists():
        return ""
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


PACKAGES = ("search_spaces", "service", "trainers")
# What a trial computes and which values it may get are decided in these. `service` runs and records
# trials: it can be rearranged without a sweep getting another id.
DECIDE_THE_NUMBERS = ("search_spaces", "trainers")


def code_version() -> str:
    """Returns `version+hash`: the release, and a hash over the source files that decide the
    numbers, each by its path inside its package and its content."""
    digest = hashlib.sha256()
    for package in DECIDE_THE_NUMBERS:
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
