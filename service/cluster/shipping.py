"""What travels with a job: this project's packages, and a folder of the user's own modules."""

import shutil
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

from service.errors import JobError
from service.provenance import PACKAGES

# Ray sends the working directory in one message, of at most 512 MiB.
LARGEST_BYTES = 500 * 1024**2
SKIPPED = ("__pycache__", ".git", ".venv", "*.egg-info", ".mypy_cache", ".ruff_cache")
IGNORE_FILE = ".kd-sweep-ignore"
SHOWN = 3


def ship(folder: Path, code: Path | None) -> None:
    """Copies the packages, and what is in `code`, into `folder`. The user's files come last, over
    ours of the same name.

    Raises `JobError` when `code` is too large for Ray: says what is large and how to leave it out.
    """
    for package in PACKAGES:
        # From where Python finds it, not from a checkout: an installed project ships itself too.
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None
        source = Path(spec.origin).parent
        shutil.copytree(source, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    if code is not None:
        copy_code(code, folder)


def copy_code(code: Path, folder: Path) -> None:
    """Copies the user's modules, without what `.kd-sweep-ignore` (a pattern a line) names."""
    files = list(_files(code))
    total = sum(path.stat().st_size for path in files)
    if total > LARGEST_BYTES:
        largest = sorted(files, key=lambda path: -path.stat().st_size)[:SHOWN]
        names = ", ".join(
            f"{path.relative_to(code)} ({path.stat().st_size / 1024**2:.0f} MiB)"
            for path in largest
        )
        raise JobError(
            f"--code {code}: at most {LARGEST_BYTES // 1024**2} MiB can be shipped, but got "
            f"{total / 1024**2:.0f} MiB; the largest are {names}. Name what to leave out in "
            f"{code / IGNORE_FILE}, a pattern a line, and put data on the shared storage."
        )
    for path in files:
        target = folder / path.relative_to(code)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


def _files(code: Path) -> list[Path]:
    ignore = code / IGNORE_FILE
    patterns = [
        *SKIPPED,
        *(ignore.read_text("utf-8", "replace").split() if ignore.exists() else []),
    ]

    def is_left_out(path: Path) -> bool:
        # A pattern may name the file, any folder above it, or the path from `code` on.
        relative = path.relative_to(code)
        names = [*relative.parts, relative.as_posix()]
        return any(fnmatch(name, pattern) for name in names for pattern in patterns)

    return [path for path in sorted(code.rglob("*")) if path.is_file() and not is_left_out(path)]
