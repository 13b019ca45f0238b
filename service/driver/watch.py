"""What happens beside a driver's stages: the user stops the sweep, slots come up, nodes go. No
Ray."""

import threading
from collections.abc import Callable
from typing import Any

from service.driver.ledger import Ledger
from service.driver.place import Sweep
from service.driver.requests import asked_to_stop
from service.events import SlotsUp, TrialAdvanced
from service.slots.board import BoardStatus

POLL_S = 0.2


class Watch:
    """A thread that looks at the board while the driver's other thread prepares, or is inside Ray
    Tune.

    A stop reaches it from three ends: a signal sets the sweep's event, `kd-sweep stop` leaves a
    file in the sweep's folder, or on a cluster calls the board. It carries the word to the others,
    so that from there on all are the same.

    get: turns the board's answers into values; draining_nodes: the nodes whose end is announced.
    `problem`: why no trial can run, None as long as one may; `num_up`: slots that have workers.
    """

    def __init__(
        self,
        sweep: Sweep,
        board: Any,
        *,
        get: Callable[[Any], Any],
        draining_nodes: Callable[[], set[str]],
    ) -> None:
        self.problem: str | None = None
        self._sweep, self._board = sweep, board
        self._get, self._draining_nodes = get, draining_nodes
        self._ledger: Ledger | None = None
        self.num_up = 0
        self._shown: dict[int, int] = {}  # trial → percent of its steps
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread: slots that go down from here on are meant to."""
        self._over.set()
        self._thread.join()

    def cover(self, ledger: Ledger) -> None:
        """Has `ledger` stopped along with the sweep, at once if it is stopping already."""
        self._ledger = ledger
        # The event may have been set, and the thread have looked, before the ledger was there.
        if self._sweep.stop.is_set():
            ledger.stop()

    def _run(self) -> None:
        try:
            while self.problem is None and not self._over.wait(POLL_S):
                self.look(self._get(self._board.status.remote()))
        except Exception as error:  # whatever it is: nobody would ever see a slot come up
            self.problem = f"the sweep's board no longer answers: {type(error).__name__}: {error}"
            if self._ledger is not None:
                self._ledger.stop()

    def look(self, status: BoardStatus) -> None:
        """Does what follows from the board's status, and from a stop."""
        num_planned = self._sweep.plan.slots
        if len(status.alive) != self.num_up:
            self.num_up = len(status.alive)
            self._sweep.on_event(SlotsUp(self.num_up, num_planned))
        self._show_steps(status)
        if status.is_stopped:
            self._sweep.stop.set()
        self._obey()
        self._leave_nodes_that_go()
        if len(status.given_up) == num_planned:
            reason = next(iter(status.given_up.values()))
            self.problem = f"no slot can start its workers: {reason}"
        if self._sweep.stop.is_set() or self.problem is not None:
            self._stop(status)

    def _show_steps(self, status: BoardStatus) -> None:
        """Shows how far trials are, by the percent."""
        for trial, (step, num_steps) in status.steps.items():
            event = TrialAdvanced(trial, step, num_steps)
            if self._shown.get(trial) != event.percent:
                self._shown[trial] = event.percent
                self._sweep.on_event(event)

    def _obey(self) -> None:
        """Does what other processes ask for in the sweep's folder."""
        for request, trial in asked_to_stop(self._sweep.folder).items():
            if trial is None:
                self._sweep.stop.set()
            else:
                self._get(self._board.cancel.remote(trial))
            request.unlink(missing_ok=True)

    def _stop(self, status: BoardStatus) -> None:
        # The ledger first: a trial that the board ends makes Tune ask for the next one.
        if self._ledger is not None:
            self._ledger.stop()
        if not status.is_stopped:
            self._get(self._board.stop.remote())

    def _leave_nodes_that_go(self) -> None:
        """Reports nodes whose end a cloud has announced; on this machine there are none."""
        if self._sweep.place.ray_address is not None:
            nodes = self._draining_nodes()
            if nodes:
                self._board.leave_nodes.remote(nodes)
