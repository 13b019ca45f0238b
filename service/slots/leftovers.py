"""What the Ray of one sweep keeps on this machine, and how what a killed driver left is ended."""

import hashlib
import os
import shutil
import signal
import stat
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from service.errors import JobError

# Ray puts sockets some 70 characters below its folder, and a socket's path has 107 at most.
LONGEST_TEMP = 35
# What Ray puts before the title of a process that had another command line.
TITLE = "ray::"


def temporary_folder(folder: Path) -> Path:
    """Returns where the Ray of the sweep in `folder` keeps sockets and logs on this machine: short,
    the same for each of the sweep's drivers, and no other user's or sweep's."""
    base = tempfile.gettempdir()
    base = base if len(base) <= LONGEST_TEMP else "/tmp"
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    return Path(base) / f"kd-{os.getuid()}-{key}"


def make_temporary(temporary: Path) -> None:
    """Makes that folder, for this user alone. Raises `JobError` where it is there and another
    user's, or open to others: its name can be foreseen, and whoever made it would read and replace
    what Ray puts there."""
    with suppress(FileExistsError):
        temporary.mkdir(mode=0o700)
    found = temporary.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return
    raise JobError(
        f"{temporary}: must be a folder of this user's alone for the sweep's Ray, but it is there "
        f"with owner {found.st_uid} and mode {stat.filemode(found.st_mode)}. Remove it, or set "
        "TMPDIR to a folder of your own."
    )


def end_leftovers(temporary: Path, ray_folder: Path | None = None) -> int:
    """Kills the processes of Ray that keep their files in `temporary`, and removes it; returns how
    many there were. ray_folder: Ray's package, the installed one by default.

    Ray's daemons outlive a driver that was killed, and hold its CPUs and memory; a worker can even
    hang in Ray's library as it ends. All of them are started with this folder on their command
    line, which no other Ray has, or have another title by now and write their output there. Others
    may name the folder too: whoever reads a log there is no process of ours.
    """
    programs = ray_folder or _ray_folder()
    # Called with the sweep's lock held, so no living driver's Ray is among them.
    found = [pid for pid in _own_processes() if _is_of_ray(pid, temporary, programs)]
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(temporary, ignore_errors=True)
    return len(found)


def _ray_folder() -> Path:
    spec = find_spec("ray")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).resolve().parent


def _own_processes() -> list[int]:
    """Returns this user's processes but this one; none where the system does not list them."""
    proc = Path("/proc")
    if not proc.is_dir():
        return []
    pids = [int(path.name) for path in proc.iterdir() if path.name.isdigit()]
    return [pid for pid in pids if pid != os.getpid() and _owner(pid) == os.getuid()]


def _owner(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:  # the process ended meanwhile
        return None


def _is_of_ray(pid: int, temporary: Path, programs: Path) -> bool:
    """Returns whether the process runs a program of Ray's package, a binary or a script, and was
    started with the folder `temporary`, or has a title of Ray's and writes its output there."""
    try:
        program = os.readlink(f"/proc/{pid}/exe")
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        if arguments[0].startswith(TITLE):
            return _names(os.readlink(f"/proc/{pid}/fd/1"), temporary)
    except OSError:
        return False
    if not any(_names(argument, temporary) for argument in arguments):
        return False
    if Path(program).is_relative_to(programs):
        return True
    # `python -u …/ray/_private/log_monitor.py …`: what is run is the first that is no option.
    script = next((one for one in arguments[1:] if not one.startswith("-")), "")
    is_python = Path(program).name.startswith("python")
    return is_python and Path(os.path.realpath(script)).is_relative_to(programs)


def _names(argument: str, folder: Path) -> bool:
    """Returns whether an argument is a path in `folder`, or an option with one."""
    path = argument.rpartition("=")[2]
    return path == str(folder) or path.startswith(f"{folder}/")
