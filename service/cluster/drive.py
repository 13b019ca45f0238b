"""The driver inside a Ray job: reads its order, runs the sweep, and writes events as lines of its
log.

Where restarts are allowed, the job's process is a watchdog and the driver its child. Whoever stops
the job signals the watchdog, which passes the signal on.
"""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from service.cluster.job import JobOrder, read_order
from service.cluster.watchdog import Child, watch_over
from service.driver.notify import tell_failure
from service.driver.requests import not_running
from service.errors import JobError, TrackingError
from service.events import DriverEvent, Notice, is_for_logs, to_line
from service.home import make_home
from service.plan.places import end_marker, sweep_folder
from service.report.conclusion import conclude_and_keep
from service.signals import SIGNALS, STOPPED_EXIT_CODE
from service.slots.session import BOARD, namespace_of
from service.states import TrialState
from service.workspace import Workspace

Say = Callable[[str], None]


def drive(path: Path, say: Say, *, is_child: bool) -> int:
    """Runs the order in `path` and returns the exit code. With restarts ordered, the driver is a
    child process that is started again when it dies."""
    order = read_order(path)
    if order.max_driver_restarts > 0 and not is_child:
        return _watch(order, path, say)
    return _run(order, say)


def control(sweep_id: str, words: list[str]) -> None:
    """Sends `stop`, or `stop-trial N`, to the board of a sweep, on the Ray that this process runs
    in. Raises `JobError` when the sweep has no board, and so no driver, or trial N does not run."""
    import ray

    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    try:
        board = ray.get_actor(BOARD, namespace=namespace_of(sweep_id))
    except ValueError as error:
        raise JobError(
            f"sweep {sweep_id}: its driver must be up to be told so, but it only starts, or has "
            "ended. Wait a moment, and look: kd-sweep status."
        ) from error
    if words[0] == "stop":
        ray.get(board.stop.remote())
    elif not ray.get(board.cancel.remote(int(words[1]))):
        raise JobError(not_running(sweep_id, int(words[1])))


def _watch(order: JobOrder, path: Path, say: Say) -> int:
    child = Child(["-m", "service", "drive", str(path), "--child"])
    # The child may not exist yet, or not any more, when a signal comes: `signal` then does nothing,
    # and the driver that starts next has not been asked to stop.
    _handle(child.signal)
    marker = end_marker(sweep_folder(order.plan, _workspace().home))

    def start() -> int:
        # One of an earlier driver would make a death of this one look like its end.
        marker.unlink(missing_ok=True)
        return exit_code(child.run(), marker)

    watched = watch_over(start, order.max_driver_restarts)
    if watched.restarts:
        say(f"the driver died and was started again {watched.restarts} times")
    if watched.exit_code < 0:
        # Killed: a driver that ends with an error has told it.
        error = f"its driver was ended by signal {-watched.exit_code}"
        tell_failure(order.plan, error, lambda event: say(to_line(event)))
    return watched.exit_code


def exit_code(code: int, marker: Path) -> int:
    """Returns what the driver's end means: what it wrote to `marker` once its sweep was over counts
    more than how its process ended after that, since Ray may kill it while it leaves."""
    if not marker.exists():
        return code
    return 0 if marker.read_text() == TrialState.COMPLETED else STOPPED_EXIT_CODE


def _run(order: JobOrder, say: Say) -> int:
    from service.driver.driver import run_at
    from service.driver.place import Place

    plan, workspace = order.plan, _workspace()
    # Nodes on one machine share Ray's copy of the shipped code, and one of them may replace it
    # while this process stands in it.
    make_home(workspace.home)
    os.chdir(workspace.home)
    uri = plan.spec.tracking.uri or workspace.tracking_uri
    stop = threading.Event()

    def on_event(event: DriverEvent) -> None:
        # Ray replaces the handlers when it starts, so each event sets them again; only the main
        # thread may, and only some events come from there.
        if threading.current_thread() is threading.main_thread():
            _handle(lambda number: stop.set())
        if is_for_logs(event):
            say(to_line(event))

    place = Place(workspace.home, uri, ray_address="auto", changes=order.changes)
    summary = run_at(place, plan, on_event=on_event, stop=stop)
    try:
        conclude_and_keep(plan, summary.run_id, uri=uri, home=workspace.home)
    except (TrackingError, OSError) as error:  # the sweep itself has ended as it should
        say(to_line(Notice(f"what was found is not kept with its run: {error}")))
    return 0 if summary.state == TrialState.COMPLETED else STOPPED_EXIT_CODE


def _workspace() -> Workspace:
    return Workspace.from_environment(os.environ, Path.cwd())


def _handle(act: Callable[[int], Any]) -> None:
    def handler(number: int, frame: FrameType | None) -> None:
        act(number)

    for each in SIGNALS:
        signal.signal(each, handler)
