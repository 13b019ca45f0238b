"""Sweeps in processes of their own on this machine, begun by somebody who does not wait for them:
in a line, so many at once, each once whatever is killed and when.

A launch is a folder. Whoever begins one holds its lock and hands the open file on to the process,
which keeps it to its end however that comes: a lock that is free and a launch that never began mean
that it waits, also when the one who was about to begin it was killed.
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from service.actions.run import RunEvent, drive_sweep
from service.cluster.job import JobOrder, read_order
from service.errors import JobError, SweepError
from service.home import HOME_VARIABLE, launches_folder, make_home
from service.signals import STOPPED_EXIT_CODE, StopOnSignal
from service.workspace import TRACKING_VARIABLE, Workspace
from trainers.files.store import write_text
from trainers.trial.strict import Strict

ORDER, LOCK, BEGUN, ENDED, OUTPUT = "order.json", "lock", "begun", "ended.json", "output.log"
COMMAND = (sys.executable, "-m", "service", "drive-here")
SHOWN = 2000  # characters of what a process said last
DIED = "its process was ended from outside"


class LaunchState(StrEnum):
    """Where a launch stands."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


class LaunchEnd(Strict):
    """How a launch's process ended; `message`: why it failed, empty otherwise."""

    exit_code: int
    message: str = ""


@dataclass(frozen=True)
class Launch:
    """A sweep that was handed over to run in a process of its own."""

    sweep_id: str
    folder: Path
    state: LaunchState
    end: LaunchEnd | None = None

    def order(self) -> JobOrder:
        """Returns what its process has to do."""
        return read_order(self.folder / ORDER)


class Launches:
    """The launches in a home folder. at_once: how many processes there may be; command: what is
    started, with the launch's folder and the number of the open lock behind it."""

    def __init__(
        self, workspace: Workspace, *, at_once: int = 1, command: Sequence[str] = COMMAND
    ) -> None:
        self._workspace, self._at_once, self._command = workspace, at_once, command
        self._folder = launches_folder(workspace.home)
        self._children: dict[Path, subprocess.Popen[bytes]] = {}
        self._ended: dict[Path, Launch] = {}  # what has ended stays so, and is not read again

    def put(self, order: JobOrder, name: str | None = None) -> None:
        """Puts a sweep at the end of the line; does nothing where a launch of this name is there,
        or was."""
        make_home(self._workspace.home)
        name = name or new_name(order.plan.sweep_id)
        folder, made = self._folder / name, self._folder / f".{name}.{os.getpid()}"
        if self.has(name):
            return
        made.mkdir(parents=True, exist_ok=True)
        write_text(made / ORDER, order.model_dump_json())
        (made / LOCK).touch()
        with suppress(FileExistsError, OSError):  # at once, or another process did
            made.rename(folder)

    def all(self) -> list[Launch]:
        """Returns all launches, the first in line first."""
        return [self._look(folder) for folder in self._folders()]

    def has(self, name: str) -> bool:
        """Returns whether there is a launch of this name, or was."""
        return (self._folder / name).exists()

    def newest(self, sweep_id: str) -> Launch | None:
        """Returns the sweep's last launch."""
        mine = [one for one in self._folders() if _sweep_of(one) == sweep_id]
        return self._look(mine[-1]) if mine else None

    def num_before(self, launch: Launch) -> int:
        """Returns how many sweeps run or wait before this one."""
        others = [one for one in self.all() if one.state is not LaunchState.ENDED]
        return sum(one.folder.name < launch.folder.name for one in others)

    def cancel(self, launch: Launch) -> bool:
        """Takes a waiting launch out of the line; returns whether it still was in it."""
        with (launch.folder / LOCK).open("a") as file:
            if not _is_free(file) or _read_held(launch.folder).state is not LaunchState.WAITING:
                return False
            _write_end(launch.folder, LaunchEnd(exit_code=STOPPED_EXIT_CODE))
            return True

    def begin_next(self) -> list[Launch]:
        """Starts as many of the waiting as may run beside those that do, and returns them. Also
        writes down the end of processes of this one that could not do so themselves."""
        if not self._folder.is_dir():
            return []
        with (self._folder / LOCK).open("a") as file:
            if not _is_free(file):  # another service, or thread, does it
                return []
            self._reap()
            known = self.all()
            running = sum(one.state is LaunchState.RUNNING for one in known)
            waiting = [one for one in known if one.state is LaunchState.WAITING]
            chosen = waiting[: max(0, self._at_once - running)]
            return [one for one in chosen if self._begin(one.folder)]

    def _begin(self, folder: Path) -> bool:
        with (folder / LOCK).open("a") as lock, (folder / OUTPUT).open("ab") as output:
            if not _is_free(lock):
                return False
            self._children[folder] = subprocess.Popen(
                [*self._command, str(folder), str(lock.fileno())],
                pass_fds=(lock.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C at the service ends no sweep
            )
        return True

    def _environment(self) -> dict[str, str]:
        place = {HOME_VARIABLE: str(self._workspace.home)}
        if self._workspace.tracking is not None:
            place[TRACKING_VARIABLE] = self._workspace.tracking
        return dict(os.environ) | place

    def _look(self, folder: Path) -> Launch:
        known = self._ended.get(folder)
        if known is not None:
            return known
        found = _read(folder)
        # Of one that died, whoever started it may still say more.
        if found.state is LaunchState.ENDED and (folder / ENDED).exists():
            self._ended[folder] = found
        return found

    def _reap(self) -> None:
        for folder, child in list(self._children.items()):
            code = child.poll()
            if code is None:
                continue
            del self._children[folder]
            if not (folder / ENDED).exists():
                said = (folder / OUTPUT).read_text(errors="replace")[-SHOWN:].strip()
                last = said.splitlines()[-1] if said else DIED
                _write_end(folder, LaunchEnd(exit_code=code, message=DIED if code < 0 else last))

    def _folders(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        found = [one for one in self._folder.iterdir() if one.is_dir() and one.name[0] != "."]
        return sorted(found, key=lambda one: one.name)


def new_name(sweep_id: str) -> str:
    """Returns the name of a new launch: they sort as they were made."""
    return f"{time.time_ns():020d}-{sweep_id}"


def run_launch(folder: Path, lock: int, say: Callable[[str], None]) -> int:
    """Runs the launch in `folder` to its end in this process, writes down how it ended, and returns
    the exit code. lock: the open file that says that it runs."""
    os.set_inheritable(lock, False)  # Ray's processes may outlive this one
    (folder / BEGUN).touch()
    try:
        end = _run(read_order(folder / ORDER), say)
    except SweepError as error:
        end = LaunchEnd(exit_code=error.exit_code, message=str(error))
    except Exception as error:
        _write_end(folder, LaunchEnd(exit_code=1, message=f"{type(error).__name__}: {error}"))
        raise
    _write_end(folder, end)
    return end.exit_code


def _run(order: JobOrder, say: Callable[[str], None]) -> LaunchEnd:
    workspace = Workspace.from_environment(os.environ, Path.cwd()).on(None)
    with StopOnSignal(say) as signals:

        def on_event(event: RunEvent) -> None:
            signals.install()

        result = drive_sweep(
            order.plan, workspace, changes=order.changes, on_event=on_event, stop=signals.stop
        )
    return LaunchEnd(exit_code=result.exit_code)


def _read(folder: Path) -> Launch:
    with (folder / LOCK).open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Launch(_sweep_of(folder), folder, LaunchState.RUNNING)
        return _read_held(folder)


def _read_held(folder: Path) -> Launch:
    """Returns a launch whose lock nobody else has."""
    sweep_id = _sweep_of(folder)
    path = folder / ENDED
    if path.exists():
        return Launch(sweep_id, folder, LaunchState.ENDED, _end_in(path))
    if (folder / BEGUN).exists():
        died = LaunchEnd(exit_code=1, message=DIED)
        return Launch(sweep_id, folder, LaunchState.ENDED, died)
    return Launch(sweep_id, folder, LaunchState.WAITING)


def _end_in(path: Path) -> LaunchEnd:
    try:
        return LaunchEnd.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise JobError(
            f"{path}: must say how a sweep's process ended, but got: "
            f"{error.errors()[0]['msg']}. Delete the file's folder."
        ) from error


def _write_end(folder: Path, end: LaunchEnd) -> None:
    write_text(folder / ENDED, end.model_dump_json())


def _sweep_of(folder: Path) -> str:
    return folder.name.partition("-")[2]


def _is_free(file: TextIO) -> bool:
    """Locks the file unless another process has; returns whether it did."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
