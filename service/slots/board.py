"""The board: where trials leave jobs, slots take them, and both sides read what the other did.

One asynchronous Ray actor without CPU per sweep; the class itself knows nothing of Ray. Everything
runs on one event loop, so between two `await`s nothing changes. A slot's workers of one start share
an *epoch*; a call with an older one comes from workers that are given up and never gets a job.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainers.trial.assignments import Ending, Job, Order, Report, Said, StopOrder, Vote
from trainers.trial.reporting import Leave

LONG_POLL_S = 30.0
# What a trial reads of its lease. A vote, or the reason why it left before one, is the last.
News = Report | Said | Vote | Leave


@dataclass
class _Lease:
    """A job between `submit` and its end. `over`: its last news is written; `leave`: why its
    workers are to leave at the next step boundary."""

    job: Job
    seen: float
    news: deque[News] = field(default_factory=deque)
    reports: int = 0
    collected: int = 0
    leave: Leave = Leave.NO
    over: bool = False


@dataclass
class _Slot:
    """A slot's present group of workers."""

    epoch: int = 0
    num_ranks: int = 0
    alive: bool = False
    leaving: bool = False
    retired: bool = False
    nodes: set[str] = field(default_factory=set)
    jobs: list[Job] = field(default_factory=list)
    votes: dict[int, dict[int, Vote]] = field(default_factory=dict)
    busy: _Lease | None = None
    idle_deaths: int = 0
    reason: str = ""
    held: Any = None


class Board:
    """Hands jobs to slots and their reports back to the trials that lease them.

    lease_ttl_s: seconds after which a lease whose trial no longer asks is ended; vote_grace_s:
    seconds that ranks wait for each other at a job's end; max_idle_deaths: deaths in a row without
    a job after which a slot is given up, because it cannot start.
    """

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
        self._queue: deque[str] = deque()
        self._leases: dict[str, _Lease] = {}
        self._attempts: dict[int, int] = {}
        self._slots: dict[str, _Slot] = {}
        self._stopped = False
        self._closed = False
        self._open: int | None = None
        self._progress: tuple[str, float] = ("", 0.0)

    # -- the trial's side

    async def attempt(self, trial: int, at_least: int) -> int:
        """Returns the number of the trial's next attempt, never one twice, `at_least` or more."""
        self._attempts[trial] = max(self._attempts.get(trial, -1) + 1, at_least)
        return self._attempts[trial]

    async def submit(self, job: Job) -> None:
        """Queues the job and ends older leases of its trial, whose follower must be gone."""
        for lease in list(self._leases.values()):
            if lease.job.trial == job.trial:
                self._release(lease, Leave.ABANDONED)
        lease = _Lease(job, self._clock())
        self._leases[job.lease] = lease
        if self._stopped:
            self._end(lease, Leave.SWEEP_STOPPED)
        else:
            self._queue.append(job.lease)
        await self._tell()

    async def news(self, lease_id: str, timeout_s: float) -> list[News]:
        """Returns what happened since the last call, nothing after `timeout_s`; keeps the lease
        alive.

        A `Vote` or a `Leave` is the lease's last news. Asking again also says that all reports of
        the call before are dealt with.
        """
        lease = self._leases.get(lease_id)
        if lease is None:
            return [Leave.ABANDONED]
        lease.seen = self._clock()
        lease.collected = lease.reports - sum(isinstance(item, Report) for item in lease.news)
        await self._tell()
        await self._until(lambda: bool(lease.news), timeout_s)
        lease.seen = self._clock()
        found = list(lease.news)
        lease.news.clear()
        if lease.over and any(isinstance(item, Vote | Leave) for item in found):
            self._leases.pop(lease_id, None)
        return found

    async def release(self, lease_id: str, reason: Leave) -> None:
        """Ends the lease, which nobody follows any more: its job leaves the queue, or its workers
        leave at their next step boundary."""
        lease = self._leases.get(lease_id)
        if lease is not None:
            self._release(lease, reason)
            await self._tell()

    # -- the user's side

    async def cancel(self, trial: int) -> None:
        """Ends the leases of `trial`, and says so to whoever follows them."""
        self._end_all(
            [lease for lease in self._leases.values() if lease.job.trial == trial], Leave.CANCELLED
        )
        await self._tell()

    async def stop(self) -> None:
        """Ends all leases, present and future, and says so to whoever follows them. The driver
        reads it from `status` and from its trials."""
        self._stopped = True
        self._end_all(list(self._leases.values()), Leave.SWEEP_STOPPED)
        await self._tell()

    # -- the slot's side

    async def enter(self, slot_id: str, num_ranks: int) -> int:
        """Returns the epoch of a group of `num_ranks` workers that has started, -1 when it shall
        quit."""
        slot = self._slots.setdefault(slot_id, _Slot())
        self._lose(slot, "its workers were started anew")
        if self._closed or slot.retired or slot.idle_deaths > self._max_idle_deaths:
            return -1
        slot.epoch += 1
        slot.num_ranks, slot.alive = num_ranks, True
        slot.leaving, slot.nodes = False, set()
        slot.jobs, slot.votes = [], {}
        await self._tell()
        return slot.epoch

    async def here(self, slot_id: str, node: str) -> None:
        """Notes that one of the slot's workers runs on `node`."""
        self._slots[slot_id].nodes.add(node)

    async def next_job(self, slot_id: str, epoch: int, index: int, rank: int) -> Job | Order:
        """Returns job number `index` of the epoch. Only rank 0 takes a new one from the queue, the
        others get what it got; after `LONG_POLL_S` WAIT, and DIE or QUIT when there is nothing more
        to do."""
        slot = self._slots[slot_id]

        def over() -> bool:
            return slot.epoch != epoch or not slot.alive or slot.leaving or slot.retired

        def ready() -> bool:
            if over() or self._closed or len(slot.jobs) > index:
                return True
            return rank == 0 and (bool(self._queue) or self._has_spare())

        await self._until(ready, LONG_POLL_S)
        if slot.epoch == epoch and slot.alive and len(slot.jobs) > index:
            return slot.jobs[index]
        if over() or self._closed:
            return Order.QUIT if slot.retired or self._closed else Order.DIE
        if rank == 0 and self._queue:
            return await self._take(slot)
        if rank == 0 and self._has_spare():
            slot.retired = True
            await self._tell()
            return Order.QUIT
        return Order.WAIT

    async def report(self, lease_id: str, report: Report) -> None:
        """Passes the report on; returns when the trial has dealt with it, or its lease is over."""
        lease = self._leases.get(lease_id)
        if lease is None or lease.over or lease.leave:
            return
        lease.reports += 1
        number = lease.reports
        lease.news.append(report)
        await self._tell()
        await self._until(
            lambda: lease.collected >= number or lease.over or bool(lease.leave), self._lease_ttl_s
        )

    async def say(self, lease_id: str, said: Said) -> None:
        """Passes a worker's notice on to whoever follows the lease."""
        lease = self._leases.get(lease_id)
        if lease is not None and not lease.over:
            lease.news.append(said)
            await self._tell()

    async def vote(self, slot_id: str, epoch: int, index: int, rank: int, vote: Vote) -> bool:
        """Takes a rank's word on how job `index` ended; returns whether all ranks of the group gave
        theirs in time. The job ends with the first error, else with rank 0's result."""
        slot = self._slots[slot_id]
        if slot.epoch != epoch or not slot.alive:
            return False
        votes = slot.votes.setdefault(index, {})
        votes[rank] = vote
        if len(votes) == slot.num_ranks:
            self._finish(slot, _verdict(votes))
        await self._tell()

        def settled() -> bool:
            return len(votes) == slot.num_ranks or slot.epoch != epoch or not slot.alive

        await self._until(settled, self._vote_grace_s)
        whole = len(votes) == slot.num_ranks
        if not settled():
            self._finish(slot, _verdict(votes, missing=slot.num_ranks - len(votes)))
            await self._tell()
        return whole

    async def orders(self, slot_id: str, epoch: int, told: str | None) -> Order | StopOrder:
        """Returns DIE when the group is given up, the order to stop the present lease unless that
        is `told` already, and WAIT when neither comes within `LONG_POLL_S`."""
        slot = self._slots[slot_id]

        def stop() -> StopOrder | None:
            lease = slot.busy
            if lease is None or not lease.leave or lease.job.lease == told:
                return None
            return StopOrder(lease.job.lease, lease.leave)

        def over() -> bool:
            return slot.epoch != epoch or not slot.alive

        await self._until(lambda: over() or stop() is not None, min(LONG_POLL_S, self._lease_ttl_s))
        self._expire()
        return Order.DIE if over() else stop() or Order.WAIT

    # -- the driver's side

    async def slot_holds(self, slot_id: str, held: Any) -> None:
        """Notes what the slot's present workers take of the cluster."""
        self._slots.setdefault(slot_id, _Slot()).held = held

    async def slot_lost(self, slot_id: str, reason: str) -> Any:
        """Notes that the slot's workers died: their job ends as lost and they never get another.
        Returns what they held, None if nothing is known of it."""
        slot = self._slots.setdefault(slot_id, _Slot())
        if slot.alive or slot.epoch == 0:
            slot.idle_deaths += slot.busy is None
            slot.reason = reason
        self._lose(slot, reason)
        await self._tell()
        return slot.held

    async def leave_nodes(self, nodes: set[str]) -> None:
        """Takes the slots off nodes that are about to go: their trials pause with a checkpoint, and
        their groups start again elsewhere."""
        for slot in self._slots.values():
            if slot.alive and not slot.leaving and slot.nodes & nodes:
                slot.leaving = True
                if slot.busy is not None:
                    self._leave(slot.busy, Leave.NODE_GOES)
        await self._tell()

    async def drain(self, num_open: int) -> None:
        """Notes that no trial will come but `num_open` ones that were begun, each of which may need
        a slot again: a slot without a job is given back when there are more than that."""
        self._open = num_open if self._open is None else min(self._open, num_open)
        await self._tell()

    async def close(self) -> None:
        """Lets every slot quit as soon as it has no job."""
        self._closed = True
        await self._tell()

    async def progress(self, stage: str, share: float) -> None:
        """Notes how far the shared preparation is."""
        self._progress = (stage, share)

    async def read_progress(self) -> tuple[str, float]:
        """Returns the last noted stage of the preparation and its share, 0 to 1."""
        return self._progress

    async def status(self) -> dict[str, Any]:
        """Returns `alive` (slots with workers), `busy` (slots with a job), `queued` (jobs),
        `given_up` (slots that could not start, with the reason), `retired` (slots given back),
        `closed`, and `stopped` (by the user)."""
        limit = self._max_idle_deaths
        return {
            "alive": sorted(name for name, slot in self._slots.items() if slot.alive),
            "busy": sorted(name for name, slot in self._slots.items() if slot.busy),
            "queued": len(self._queue),
            "closed": self._closed,
            "retired": sorted(name for name, slot in self._slots.items() if slot.retired),
            "stopped": self._stopped,
            "given_up": {n: s.reason for n, s in self._slots.items() if s.idle_deaths > limit},
        }

    # -- inside

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        if ready():
            return
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(ready), timeout_s)
            except TimeoutError:
                return

    def _has_spare(self) -> bool:
        """Whether there are more slots than trials that may still come to them."""
        up = sum(s.alive and not (s.retired or s.leaving) for s in self._slots.values())
        return self._open is not None and up > self._open

    async def _take(self, slot: _Slot) -> Job:
        lease = self._leases[self._queue.popleft()]
        slot.jobs.append(lease.job)
        slot.busy = lease
        slot.idle_deaths = 0
        await self._tell()
        return lease.job

    def _finish(self, slot: _Slot, vote: Vote) -> None:
        lease, slot.busy = slot.busy, None
        if lease is not None:
            self._end(lease, vote)

    def _lose(self, slot: _Slot, reason: str) -> None:
        slot.alive = False
        self._finish(slot, Vote(Ending.LOST, error=reason))

    def _end_all(self, leases: list[_Lease], reason: Leave) -> None:
        for lease in leases:
            self._leave(lease, reason)
            self._end(lease, reason)

    def _end(self, lease: _Lease, last: Vote | Leave) -> None:
        """Writes the lease's last news, unless it has one."""
        if not lease.over:
            lease.over = True
            lease.news.append(last)

    def _leave(self, lease: _Lease, reason: Leave) -> None:
        """Takes the job from the queue, or has the slot's workers leave it. The first reason is the
        one that counts."""
        lease.leave = lease.leave or reason
        if lease.job.lease in self._queue:
            self._queue.remove(lease.job.lease)

    def _release(self, lease: _Lease, reason: Leave) -> None:
        self._leave(lease, reason)
        self._leases.pop(lease.job.lease, None)

    def _expire(self) -> None:
        oldest = self._clock() - self._lease_ttl_s
        for lease in list(self._leases.values()):
            if lease.seen < oldest:
                self._release(lease, Leave.ABANDONED)


def _verdict(votes: dict[int, Vote], missing: int = 0) -> Vote:
    """Returns what the votes, in the order in which they came, say together."""
    failed = [vote for vote in votes.values() if vote.ending is not Ending.DONE]
    if failed:
        return next((vote for vote in failed if vote.ending is Ending.OUT_OF_MEMORY), failed[0])
    if missing or 0 not in votes:
        return Vote(Ending.LOST, error=f"{missing} of the slot's workers did not finish the trial")
    return votes[0]
