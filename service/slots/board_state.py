"""What the sides of the board share: its state, and how their calls wait for each other."""

import asyncio
import time
from collections.abc import Callable

from service.slots.groups import WorkerGroup
from service.slots.leases import Leases


class BoardState:
    """The state of a board; for lease_ttl_s, vote_grace_s and max_idle_deaths see `Board`."""

    def __init__(
        self,
        *,
        lease_ttl_s: float = 120.0,
        vote_grace_s: float = 8.0,
        max_idle_deaths: int = 3,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lease_ttl_s = lease_ttl_s
        self._vote_grace_s = vote_grace_s
        self._max_idle_deaths = max_idle_deaths
        self._clock = clock
        self._changed = asyncio.Condition()
        self._leases = Leases()
        self._groups: dict[str, WorkerGroup] = {}
        self._attempts: dict[int, int] = {}
        self._is_closed = False
        self._num_open: int | None = None
        self._progress: tuple[str, float] = ("", 0.0)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Returns once `ready` was true, or after `timeout_s`; the caller looks again."""
        if ready():
            return
        async with self._changed:
            # `wait_for` runs what it waits for as a task of its own, so this call goes on a few
            # turns of the loop after `ready` was true; by then it may be false again.
            try:
                await asyncio.wait_for(self._changed.wait_for(ready), timeout_s)
            except TimeoutError:
                return

    def _is_given_up(self, group: WorkerGroup) -> bool:
        return group.num_idle_deaths > self._max_idle_deaths
