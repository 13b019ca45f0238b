"""A slot as the board sees it: its present group of workers, what they do and how they vote.

Plain state that never waits. Only the board uses it, on its event loop.
"""

from dataclasses import dataclass, field
from typing import Any

from service.slots.leases import Lease
from trainers.trial.assignments import Assignment, Ending, LeaveTrial, Vote


@dataclass
class WorkerGroup:
    """A slot's present group of workers.

    epoch: how many groups the slot has had. A worker says its group's number with every call: one
    that is older comes from a process that is about to be killed, and must neither take an
    assignment with it nor vote on one that a newer group has. is_leaving: its node goes, the next
    group starts elsewhere; is_retired: the slot is given back and has no next group.

    assignments, votes: of this epoch, by index; lease: the one its workers are at; num_idle_deaths:
    groups in a row that died before their first assignment; reason: why the last one did; held:
    what the workers take of the cluster.
    """

    epoch: int = 0
    num_ranks: int = 0
    is_alive: bool = False
    is_leaving: bool = False
    is_retired: bool = False
    nodes: set[str] = field(default_factory=set)
    assignments: list[Assignment] = field(default_factory=list)
    votes: dict[int, dict[int, Vote]] = field(default_factory=dict)
    lease: Lease | None = None
    num_idle_deaths: int = 0
    reason: str = ""
    held: Any = None

    def is_current(self, epoch: int) -> bool:
        """Whether the workers of `epoch` are the slot's present ones, and alive."""
        return self.is_alive and self.epoch == epoch

    def start(self, num_ranks: int) -> int:
        """Returns the epoch of a group that has just started."""
        self.epoch += 1
        self.num_ranks, self.is_alive, self.is_leaving = num_ranks, True, False
        self.nodes, self.assignments, self.votes = set(), [], {}
        return self.epoch

    def assign(self, lease: Lease) -> Assignment:
        """Gives the group its next assignment. That it got one shows that the slot can start."""
        self.assignments.append(lease.assignment)
        self.lease, self.num_idle_deaths = lease, 0
        return lease.assignment

    def finish(self, vote: Vote) -> None:
        """Ends the present assignment, if there is one, with `vote`."""
        # Taken off first, so that a vote and a loss at the same time end it once.
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.end(vote)

    def lose(self, reason: str) -> None:
        """Notes that the workers are dead or given up. They are no longer current from here on: one
        of their calls may still be waiting, and the next assignment must not go to it."""
        self.is_alive = False
        self.finish(Vote(Ending.LOST, error=reason))

    def count_death(self, reason: str) -> None:
        """Counts a death without an assignment. A group that died is reported twice, by Ray Train's
        controller and by the thread that hosts it: the second report finds it dead already."""
        # Epoch 0: no group ever entered, so it died before it could.
        if self.is_alive or self.epoch == 0:
            self.num_idle_deaths += self.lease is None
            self.reason = reason

    def trial_to_leave(self, known: str | None) -> LeaveTrial | None:
        """Returns the lease that the workers are to leave, unless it is `known`, which they know of
        already."""
        lease = self.lease
        if lease is None or not lease.leave or lease.assignment.lease == known:
            return None
        return LeaveTrial(lease.assignment.lease, lease.leave)


def verdict(votes: dict[int, Vote], num_missing: int = 0) -> Vote:
    """Returns what the votes, in the order in which they came, say together. The first error is the
    cause: the other ranks fail a little later because the group broke. Without one rank 0 has the
    result."""
    failed = [vote for vote in votes.values() if vote.ending is not Ending.DONE]
    if failed:
        return next((vote for vote in failed if vote.ending is Ending.OUT_OF_MEMORY), failed[0])
    if num_missing or 0 not in votes:
        error = f"{num_missing} of the slot's workers did not finish the trial"
        return Vote(Ending.LOST, error=error)
    return votes[0]
