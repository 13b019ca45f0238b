"""The board towards trials, which lease slots and follow their leases, and towards the user, who
may end them."""

from service.slots.board_state import BoardState
from service.slots.leases import News
from trainers.trial.assignments import Assignment
from trainers.trial.reporting import Leave


class TrialSide(BoardState):
    """What a trial calls, and whoever ends trials."""

    async def attempt(self, trial: int, at_least: int) -> int:
        """Returns the number of the trial's next attempt, never one twice, `at_least` or more."""
        self._attempts[trial] = max(self._attempts.get(trial, -1) + 1, at_least)
        return self._attempts[trial]

    async def submit(self, assignment: Assignment) -> None:
        """Queues the assignment and ends older leases of its trial."""
        self._leases.add(assignment, self._clock())
        await self._notify()

    async def news(self, lease_id: str, timeout_s: float) -> list[News]:
        """Returns what happened since the last call, nothing after `timeout_s`; keeps the lease
        alive.

        A `Vote` or a `Leave` is the lease's last news. Asking again also says that all reports of
        the call before are dealt with.
        """
        lease = self._leases.by_id.get(lease_id)
        if lease is None:
            return [Leave.ABANDONED]
        lease.note_asked(self._clock())
        await self._notify()
        await self._until(lambda: bool(lease.news), timeout_s)
        lease.last_asked = self._clock()
        return self._leases.read(lease)

    async def release(self, lease_id: str, reason: Leave) -> None:
        """Ends the lease, which nobody follows any more: its assignment leaves the queue, or its
        workers leave at their next step boundary."""
        lease = self._leases.by_id.get(lease_id)
        if lease is not None:
            self._leases.release(lease, reason)
            await self._notify()

    # -- the user's side

    async def cancel(self, trial: int) -> bool:
        """Ends the leases of `trial`, and says so to whoever follows them; returns whether there
        were any."""
        leases = self._leases.of_trial(trial)
        self._leases.end(leases, Leave.CANCELLED)
        await self._notify()
        return bool(leases)

    async def stop(self) -> None:
        """Ends all leases, present and future, and says so to whoever follows them. The driver
        reads it from `status` and from its trials."""
        self._leases.is_stopped = True
        self._leases.end(self._leases.by_id.values(), Leave.SWEEP_STOPPED)
        await self._notify()
