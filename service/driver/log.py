"""What a sweep's drivers wrote, in its folder: a file for each of them, the events as lines."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.driver.lock import holder_of
from service.events import DriverEvent, to_line
from service.plan.places import logs_folder

logger = logging.getLogger(__name__)
POLL_S = 0.3
ENDING = ".log"


@contextmanager
def driver_log(folder: Path) -> Iterator[Callable[[DriverEvent], None]]:
    """Yields what writes events into the log of the driver that holds the sweep's folder. An error
    that ends it becomes its last line.

    Events come from several threads. A log that cannot be written ends no sweep.
    """
    path = logs_folder(folder) / f"{_newest_number(folder) + 1}{ENDING}"
    path.parent.mkdir(exist_ok=True)
    lock = threading.Lock()

    def write(line: str) -> None:
        try:
            with lock, path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{line}\n")
        except OSError as error:
            logger.warning("the driver's log misses a line: %s", error)

    try:
        yield lambda event: write(to_line(event))
    except BaseException as error:
        write(f"error: {error or type(error).__name__}")
        raise


def log_lines(folder: Path, *, follow: bool = False) -> Iterator[str]:
    """Yields the lines of the newest driver's log; with `follow` until that driver has ended.
    Nothing where there is none, as an older version wrote none."""
    number = _newest_number(folder)
    path = logs_folder(folder) / f"{number}{ENDING}"
    if not path.exists():
        return
    rest = ""
    with path.open(encoding="utf-8") as file:
        while True:
            # Looked at before the file is read: what a driver wrote before it ended is there. The
            # next one may have come meanwhile.
            is_driven = holder_of(folder) is not None and _newest_number(folder) == number
            *lines, rest = (rest + file.read()).split("\n")
            yield from lines
            if not (follow and is_driven):
                return
            time.sleep(POLL_S)


@dataclass(frozen=True)
class LogPart:
    """Lines of a log, and the place behind them: what to ask for next."""

    lines: list[str]
    place: str


def log_part(folder: Path, after: str = "") -> LogPart:
    """Returns the whole lines of the newest driver's log behind the place that an earlier part
    ended at; all of them where that was another driver's, or is none."""
    number = _newest_number(folder)
    path = logs_folder(folder) / f"{number}{ENDING}"
    known, _, offset = after.partition(":")
    start = int(offset) if known == str(number) and offset.isascii() and offset.isdigit() else 0
    if not path.exists():
        return LogPart([], after)
    with path.open("rb") as file:
        file.seek(start)
        *lines, rest = file.read().split(b"\n")
        place = f"{number}:{file.tell() - len(rest)}"
    return LogPart([line.decode(errors="replace") for line in lines], place)


def _newest_number(folder: Path) -> int:
    names = [path.stem for path in logs_folder(folder).glob(f"*{ENDING}")]
    return max((int(name) for name in names if name.isascii() and name.isdigit()), default=0)
