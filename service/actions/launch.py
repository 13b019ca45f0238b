"""Sweeps in processes of their own on this machine, begun by somebody who does not wait for them:
in a line (`service.accounts.line`), so many at once, each once whatever is killed and when.

A launch is a folder. Whoever begins one holds its lock and hands the open file on to the process,
which keeps it to its end however that comes: a lock that is free and a launch that never began mean
that it waits, also when the one who was about to begin it was killed.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TextIO, TypeVar

from pydantic import TypeAdapter, ValidationError

from service.accounts.line import Asked, Entry, Place, Quotas, places, refusal
from service.actions.run import drive_sweep
from service.actions.run_result import RunEvent
from service.cluster.job import JobOrder, read_order
from service.errors import JobError, SweepError
from service.home import HOME_VARIABLE, launches_folder, make_home
from service.signals import STOPPED_EXIT_CODE, StopOnSignal
from service.workspace import TRACKING_VARIABLE, Workspace
from trainers.files.store import write_text
from trainers.trial.strict import Strict

ORDER, ASKED, LOCK, BEGUN, ENDED = "order.json", "asked.json", "lock", "begun", "ended.json"
OUTPUT = "output.log"
COMMAND = (sys.executable, "-m", "service", "drive-here")
SHOWN = 2000  # characters of what a process said last
DIED = "its process was ended from outside"
CANCEL_TRIES, TRY_AGAIN_S = 20, 0.05
T = TypeVar("T")


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
    """A sweep that was handed over to run in a process of its own. `entry`: its place among all."""

    sweep_id: str
    folder: Path
    state: LaunchState
    entry: Entry
    end: LaunchEnd | None = None

    def order(self) -> JobOrder:
        """Returns what its process has to do."""
        return read_order(self.folder / ORDER)


class Launches:
    """The launches in a home folder. at_once: how many processes there may be; command: what is
    started, with the launch's folder and the number of the open lock behind it; quotas: asked for
    what users may have; now: seconds since 1970."""

    runs_unlocked = False  # what has begun runs on without a process that holds its lock

    def __init__(
        self,
        workspace: Workspace,
        *,
        at_once: int = 1,
        command: Sequence[str] = COMMAND,
        quotas: Callable[[], Quotas] = dict,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.workspace, self._at_once, self._command = workspace, at_once, command
        self._quotas, self._now = quotas, now
        self._folder = launches_folder(workspace.home)
        self._children: dict[Path, subprocess.Popen[bytes]] = {}
        self._ended: dict[Path, Launch] = {}  # what has ended stays so, and is not read again

    def put(self, order: JobOrder, name: str | None = None, asked: Asked | None = None) -> None:
        """Puts a sweep in line; does nothing where a launch of this name is there, or was. asked:
        by whom, and what it takes."""
        make_home(self.workspace.home)
        name = name or new_name(order.plan.sweep_id)
        folder, made = self._folder / name, self._folder / f".{name}.{os.getpid()}"
        if self.has(name):
            return
        made.mkdir(parents=True, exist_ok=True)
        write_text(made / ORDER, order.model_dump_json())
        write_text(made / ASKED, json.dumps(vars(asked or Asked())))
        (made / LOCK).touch()
        with suppress(FileExistsError, OSError):  # at once, or another process did
            made.rename(folder)

    def all(self) -> list[Launch]:
        """Returns all launches in the order in which they were put."""
        return [self._look(folder) for folder in self._folders()]

    def has(self, name: str) -> bool:
        """Returns whether there is a launch of this name, or was."""
        return (self._folder / name).exists()

    def newest(self, sweep_id: str) -> Launch | None:
        """Returns the sweep's last launch."""
        mine = [one for one in self._folders() if _sweep_of(one) == sweep_id]
        return self._look(mine[-1]) if mine else None

    def line(self) -> list[Place]:
        """Returns the places of those that wait, the first in line first."""
        entries = self.entries()
        if not any(one.waits for one in entries):
            return []
        return places(entries, self._quotas(), self._now())

    def refusal(self, asked: Asked) -> str:
        """Returns why a sweep may not even enter the line, as an error's message, empty where it
        may."""
        return refusal(asked, self.entries(), self._quotas(), self._now())

    def entries(self) -> list[Entry]:
        """Returns all that were put in line, in that order."""
        return [one.entry for one in self.all()]

    def cancel(self, launch: Launch) -> bool:
        """Takes a waiting launch out of the line; returns whether it still was in it."""
        if launch.state is not LaunchState.WAITING:
            return False
        with (launch.folder / LOCK).open("a") as file:
            # Whoever only looks holds it for a moment, too.
            if not is_free(file, tries=CANCEL_TRIES):
                return False
            if self._unlocked(launch.folder).state is not LaunchState.WAITING:
                return False
            write_end(launch.folder, LaunchEnd(exit_code=STOPPED_EXIT_CODE))
            return True

    def begin_next(self) -> list[Launch]:
        """Starts as many of the waiting as may run beside those that do, and returns them. Also
        writes down the end of processes of this one that could not do so themselves."""
        if not self._folder.is_dir():
            return []
        with (self._folder / LOCK).open("a") as file:
            if not is_free(file):  # another service, or thread, does it
                return []
            self._reap()
            begun: list[Launch] = []
            while (chosen := self._next(begun)) is not None and self._begin(chosen.folder):
                begun.append(chosen)
            return begun

    def _next(self, begun: Sequence[Launch]) -> Launch | None:
        """Returns who begins next beside those that have just begun, if one may."""
        known, now = {one.entry.name: one for one in self.all()}, self._now()
        for one in begun:  # whatever they say so far
            entry = replace(one.entry, began_at=now)
            known[entry.name] = replace(one, state=LaunchState.RUNNING, entry=entry)
        running = sum(one.state is LaunchState.RUNNING for one in known.values())
        waiting = sum(one.state is LaunchState.WAITING for one in known.values())
        if running >= self._at_once or not waiting:
            return None
        line = places([one.entry for one in known.values()], self._quotas(), now)
        return next((known[one.entry.name] for one in line if not one.held), None)

    def _begin(self, folder: Path) -> bool:
        with (folder / LOCK).open("a") as lock, (folder / OUTPUT).open("ab") as output:
            if not is_free(lock):
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
        place = {HOME_VARIABLE: str(self.workspace.home)}
        if self.workspace.tracking is not None:
            place[TRACKING_VARIABLE] = self.workspace.tracking
        return dict(os.environ) | place

    def _look(self, folder: Path) -> Launch:
        known = self._ended.get(folder)
        if known is not None:
            return known
        found = self._read(folder)
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
                write_end(folder, LaunchEnd(exit_code=code, message=DIED if code < 0 else last))

    def _read(self, folder: Path) -> Launch:
        with (folder / LOCK).open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _launch(folder, LaunchState.RUNNING)
            return self._unlocked(folder)

    def _unlocked(self, folder: Path) -> Launch:
        """Returns a launch whose lock nobody else has."""
        path = folder / ENDED
        if path.exists():
            end = _in_file(path, LaunchEnd, "how a sweep's process ended")
            return _launch(folder, LaunchState.ENDED, end)
        if not (folder / BEGUN).exists():
            return _launch(folder, LaunchState.WAITING)
        if self.runs_unlocked:
            return _launch(folder, LaunchState.RUNNING)
        return _launch(folder, LaunchState.ENDED, LaunchEnd(exit_code=1, message=DIED))

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
        write_end(folder, LaunchEnd(exit_code=1, message=f"{type(error).__name__}: {error}"))
        raise
    write_end(folder, end)
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


def _launch(folder: Path, state: LaunchState, end: LaunchEnd | None = None) -> Launch:
    began, ended = _time_of(folder / BEGUN), None
    if state is LaunchState.RUNNING:
        began = began or time.time()  # it only starts
    if state is LaunchState.ENDED:
        # One that was killed wrote nothing down but what it said last.
        ended = _time_of(folder / ENDED) or _time_of(folder / OUTPUT) or began
    path, number = folder / ASKED, folder.name.partition("-")[0]
    asked = _in_file(path, Asked, "who asked for a sweep") if path.exists() else Asked()
    entry = Entry(folder.name, asked, int(number) / 1e9, began, ended)
    return Launch(_sweep_of(folder), folder, state, entry, end)


def _time_of(path: Path) -> float | None:
    return path.stat().st_mtime if path.exists() else None


def _in_file(path: Path, kind: type[T], what: str) -> T:
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        raise JobError(
            f"{path}: must say {what}, but got: {error.errors()[0]['msg']}. Delete the file's "
            "folder."
        ) from error


def write_end(folder: Path, end: LaunchEnd) -> None:
    """Writes down how a launch ended."""
    write_text(folder / ENDED, end.model_dump_json())


def _sweep_of(folder: Path) -> str:
    return folder.name.partition("-")[2]


def is_free(file: TextIO, *, tries: int = 1) -> bool:
    """Locks the file unless another process has; returns whether it did."""
    for number in range(tries):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if number + 1 < tries:
                time.sleep(TRY_AGAIN_S)
        else:
            return True
    return False
