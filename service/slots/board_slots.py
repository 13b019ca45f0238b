"""The board towards the workers of slots, which ask it for assignments and tell it how they end."""

from service.slots.board_state import BoardState
from service.slots.groups import WorkerGroup, verdict
from trainers.trial.assignments import Assignment, Instruction, LeaveTrial, Report, Said, Vote

# A call that found nothing answers after so long, so that a dead worker's does not wait for ever.
LONG_POLL_S = 30.0


class SlotSide(BoardState):
    """What the workers of a slot call; each rank for itself."""

    async def enter(self, slot: str, num_ranks: int) -> int:
        """Returns the epoch of a group of `num_ranks` workers that has started, -1 when it is to
        quit."""
        group = self._groups.setdefault(slot, WorkerGroup())
        # Whether or not somebody has reported that the former group is gone: it is over.
        group.lose("its workers were started anew")
        if self._is_closed or group.is_retired or self._is_given_up(group):
            return -1
        epoch = group.start(num_ranks)
        await self._notify()
        return epoch

    async def note_node(self, slot: str, node: str) -> None:
        """Notes that one of the slot's workers runs on `node`."""
        self._groups[slot].nodes.add(node)

    async def next_assignment(
        self, slot: str, epoch: int, index: int, rank: int
    ) -> Assignment | Instruction:
        """Returns assignment number `index` of the epoch. Only rank 0 takes a new one from the
        queue, the others get what it got; after `LONG_POLL_S` WAIT, and DIE or QUIT when there is
        nothing more to do."""
        group = self._groups[slot]

        def ready() -> bool:
            if len(group.assignments) > index or self._end_of(group, epoch) is not None:
                return True
            return rank == 0 and (bool(self._leases.queue) or self._has_spare())

        await self._until(ready, LONG_POLL_S)
        answer = self._answer(group, epoch, index, rank)
        await self._notify()
        return answer

    async def report(self, lease_id: str, report: Report) -> None:
        """Passes the report on; returns when the trial has dealt with it, or its lease is over.

        The worker waits for this before it sends the next one. So a fast trial never runs two
        evaluations ahead of early stopping, whose verdicts would come too late to save anything.
        """
        lease = self._leases.by_id.get(lease_id)
        if lease is None or not lease.takes_reports:
            return
        number = lease.add_report(report)
        await self._notify()
        await self._until(
            lambda: lease.num_handled >= number or not lease.takes_reports, self._lease_ttl_s
        )

    async def note_step(self, lease_id: str, step: int, num_steps: int) -> None:
        """Notes how far the lease's trial is, for `status`."""
        lease = self._leases.by_id.get(lease_id)
        if lease is not None:
            lease.steps = (step, num_steps)

    async def say(self, lease_id: str, said: Said) -> None:
        """Passes a worker's notice on to whoever follows the lease."""
        lease = self._leases.by_id.get(lease_id)
        if lease is not None:
            lease.add(said)
            await self._notify()

    async def vote(self, slot: str, epoch: int, index: int, rank: int, vote: Vote) -> bool:
        """Takes a rank's word on how assignment `index` ended; returns whether all ranks of the
        group gave theirs in time. It ends with the first error, else with rank 0's result.

        Ranks end within milliseconds of each other, or one of them hangs in a collective that
        nobody else will join. The grace is there for the slow ones; after it the group is replaced,
        which costs seconds and not the ten minutes of the collective's own timeout.
        """
        group = self._groups[slot]
        if not group.is_current(epoch):
            return False
        votes = group.votes.setdefault(index, {})
        votes[rank] = vote
        if len(votes) == group.num_ranks:
            group.finish(verdict(votes))
        await self._notify()

        def is_settled() -> bool:
            return len(votes) == group.num_ranks or not group.is_current(epoch)

        await self._until(is_settled, self._vote_grace_s)
        # Of the ranks that wait here one finds the votes incomplete first and ends the lease; the
        # others find no lease, or a group that is no longer current.
        if not is_settled():
            group.finish(verdict(votes, num_missing=group.num_ranks - len(votes)))
            await self._notify()
        return len(votes) == group.num_ranks

    async def instructions(
        self, slot: str, epoch: int, known: str | None
    ) -> Instruction | LeaveTrial:
        """Returns DIE when the group is given up, the present lease if its trial is to be left and
        it is not `known` already, and WAIT when neither comes within `LONG_POLL_S`."""
        group = self._groups[slot]

        def ready() -> bool:
            return not group.is_current(epoch) or group.trial_to_leave(known) is not None

        await self._until(ready, min(LONG_POLL_S, self._lease_ttl_s))
        # Every worker comes by here at least this often, so no timer is needed.
        self._leases.release_expired(self._clock() - self._lease_ttl_s)
        if not group.is_current(epoch):
            return Instruction.DIE
        return group.trial_to_leave(known) or Instruction.WAIT

    def _answer(
        self, group: WorkerGroup, epoch: int, index: int, rank: int
    ) -> Assignment | Instruction:
        if group.is_current(epoch) and len(group.assignments) > index:
            return group.assignments[index]
        end = self._end_of(group, epoch)
        if end is not None:
            return end
        # Were each rank to take one, the ranks of a group would train different trials. Rank 0 asks
        # first or last, as it happens: the others wait until its assignment is in the list.
        if rank == 0 and self._leases.queue:
            return group.assign(self._leases.take())
        # Looked at and noted without an `await` between, so two idle slots are never both the spare
        # one.
        if rank == 0 and self._has_spare():
            group.is_retired = True
            return Instruction.QUIT
        return Instruction.WAIT

    def _end_of(self, group: WorkerGroup, epoch: int) -> Instruction | None:
        """Returns what ends the workers of `epoch`, None while they may get another assignment."""
        if self._is_closed or group.is_retired:
            return Instruction.QUIT
        return Instruction.DIE if group.is_leaving or not group.is_current(epoch) else None

    def _has_spare(self) -> bool:
        """Whether there are more slots than trials that may still come to them."""
        usable = [
            group
            for group in self._groups.values()
            if group.is_alive and not (group.is_retired or group.is_leaving)
        ]
        return self._num_open is not None and len(usable) > self._num_open
