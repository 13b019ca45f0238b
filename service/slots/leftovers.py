"""What the Ray of one sweep keeps on this machine, and how what a killed driver left is ended."""

import hashlib
import os
import shutil
import signal
import tempfile
from pathlib import Path

# Ray puts sockets some 70 characters below its folder, and a socket's path has 107 at most.
LONGEST_TEMP = 35


def temporary_folder(folder: Path) -> Path:
    """Returns where the Ray of the sweep in `folder` keeps sockets and logs on this machine: short,
    the same for each of the sweep's drivers, and no other user's or sweep's."""
    base = tempfile.gettempdir()
    base = base if len(base) <= LONGEST_TEMP else "/tmp"
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    return Path(base) / f"kd-{os.getuid()}-{key}"


def end_leftovers(temporary: Path) -> int:
    """Kills processes whose command line names `temporary`, and removes it; returns how many there
    were.

    Ray's daemons outlive a driver that was killed, and hold its CPUs and memory. All of them are
    started with this folder on their command line, which no other Ray has.
    """
    # Called with the sweep's lock held, so no living driver's Ray is among them.
    found = [pid for pid in _processes() if str(temporary) in _command(pid)]
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(temporary, ignore_errors=True)
    return len(found)


def _processes() -> list[int]:
    proc = Path("/proc")
    if not proc.is_dir():
        return []
    return [int(p.name) for p in proc.iterdir() if p.name.isdigit() and int(p.name) != os.getpid()]


def _command(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:  # the process ended meanwhile
        return ""
