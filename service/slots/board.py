"""The board: where trials leave assignments, slots take them, and both sides read what the other
did.

One asynchronous Ray actor without CPU per sweep; the class itself knows nothing of Ray.

It needs no lock. All calls run on one event loop, so nothing changes between two `await`s: a call
reads the state, changes it and only then waits or answers. What was true before an `await` is
looked at again behind it, also when the call waited for just that: between the moment in which a
condition holds and the moment in which its waiter runs, other calls may run.
"""

from dataclasses import dataclass, field
from typing import Any

from service.slots.board_slots import SlotSide
from service.slots.board_trials import TrialSide
from service.slots.groups import WorkerGroup
from trainers.trial.reporting import Leave


@dataclass(frozen=True)
class BoardStatus:
    """Slots that have workers, that are at a trial, that could not start (with the reason), and
    that were given back; leases in the queue; whether the board is closed, and whether the user has
    stopped the sweep. steps: by trial, how many its workers have done, and of how many."""

    alive: list[str]
    busy: list[str]
    given_up: dict[str, str]
    retired: list[str]
    num_queued: int
    is_closed: bool
    is_stopped: bool
    steps: dict[int, tuple[int, int]] = field(default_factory=dict)


class Board(TrialSide, SlotSide):
    """Hands assignments to slots and their reports back to the trials that lease them. What the
    driver calls is here.

    lease_ttl_s: seconds after which a lease whose trial no longer asks is ended; vote_grace_s:
    seconds that ranks wait for each other at a trial's end; max_idle_deaths: deaths in a row
    without an assignment after which a slot is given up, because it cannot start.
    """

    async def slot_holds(self, slot: str, held: Any) -> None:
        """Notes what the slot's present workers take of the cluster."""
        self._groups.setdefault(slot, WorkerGroup()).held = held

    async def slot_lost(self, slot: str, reason: str) -> Any:
        """Notes that the slot's workers died: their assignment ends as lost and they never get
        another. Returns what they held, None if nothing is known of it."""
        group = self._groups.setdefault(slot, WorkerGroup())
        group.count_death(reason)
        group.lose(reason)
        await self._notify()
        return group.held

    async def leave_nodes(self, nodes: set[str]) -> None:
        """Takes the slots off nodes that are about to go: their trials leave with a checkpoint, and
        their groups start again elsewhere."""
        for group in self._groups.values():
            if group.is_alive and not group.is_leaving and group.nodes & nodes:
                group.is_leaving = True
                if group.lease is not None:
                    self._leases.leave(group.lease, Leave.NODE_GOES)
        await self._notify()

    async def drain(self, num_open: int) -> None:
        """Notes that no trial will come but `num_open` ones that have started, each of which may
        need a slot again: a slot without an assignment is given back when there are more slots."""
        self._num_open = num_open if self._num_open is None else min(self._num_open, num_open)
        await self._notify()

    async def close(self) -> None:
        """Lets every slot quit as soon as it has no assignment."""
        self._is_closed = True
        await self._notify()

    async def progress(self, stage: str, share: float) -> None:
        """Notes how far the shared preparation is."""
        self._progress = (stage, share)

    async def read_progress(self) -> tuple[str, float]:
        """Returns the last noted stage of the preparation and its share, 0 to 1."""
        return self._progress

    async def status(self) -> BoardStatus:
        """Returns how the slots are, and what the user wants."""
        groups = self._groups.items()
        return BoardStatus(
            alive=sorted(slot for slot, group in groups if group.is_alive),
            busy=sorted(slot for slot, group in groups if group.lease is not None),
            given_up={slot: group.reason for slot, group in groups if self._is_given_up(group)},
            retired=sorted(slot for slot, group in groups if group.is_retired),
            num_queued=len(self._leases.queue),
            is_closed=self._is_closed,
            is_stopped=self._leases.is_stopped,
            steps={
                group.lease.assignment.trial: group.lease.steps
                for group in self._groups.values()
                if group.lease is not None and group.lease.steps[0]
            },
        )
