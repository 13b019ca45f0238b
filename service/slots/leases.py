"""Leases: a trial's claim on a slot, from the moment it asks for one until its end has been read.

Plain state that never waits. Only the board uses it, on its event loop.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from trainers.trial.assignments import Assignment, Report, Said, Vote
from trainers.trial.reporting import Leave

# What a trial reads of its lease. A vote, or the reason why it left before one, is the last.
News = Report | Said | Vote | Leave


@dataclass
class Lease:
    """An assignment between its submission and its end.

    last_asked: when its trial asked for news, on the board's clock; num_sent, num_handled: reports
    that came from the workers, and those that the trial has dealt with; leave: why the workers are
    to leave at their next step boundary; is_over: its last news is written; steps: how many its
    workers have done, and of how many.
    """

    assignment: Assignment
    last_asked: float
    news: deque[News] = field(default_factory=deque)
    num_sent: int = 0
    num_handled: int = 0
    leave: Leave = Leave.NO
    is_over: bool = False
    steps: tuple[int, int] = (0, 0)

    @property
    def takes_reports(self) -> bool:
        """Whether a report of its workers still matters to anybody."""
        return not self.is_over and not self.leave

    def add_report(self, report: Report) -> int:
        """Returns the report's number, 1-based."""
        self.news.append(report)
        self.num_sent += 1
        return self.num_sent

    def add(self, said: Said) -> None:
        """Adds a notice, unless the last news is written."""
        if not self.is_over:
            self.news.append(said)

    def end(self, last: Vote | Leave) -> None:
        """Writes the last news; only the first call does."""
        if not self.is_over:
            self.is_over = True
            self.news.append(last)

    def note_asked(self, now: float) -> None:
        """Notes that the trial asks for news, which also says that it has dealt with all reports it
        read before."""
        self.last_asked = now
        # What is still in `news` was not read yet, so it cannot be dealt with.
        self.num_handled = self.num_sent - sum(isinstance(item, Report) for item in self.news)


@dataclass
class Leases:
    """All leases whose trials still follow them. `queue`: those that no slot has taken, the oldest
    first; `is_stopped`: the sweep takes no more of them."""

    by_id: dict[str, Lease] = field(default_factory=dict)
    queue: deque[str] = field(default_factory=deque)
    is_stopped: bool = False

    def add(self, assignment: Assignment, now: float) -> None:
        """Queues the assignment. Older leases of its trial are released: a trial follows one at a
        time, so whoever followed them is gone."""
        for lease in self.of_trial(assignment.trial):
            self.release(lease, Leave.ABANDONED)
        lease = Lease(assignment, now)
        self.by_id[assignment.lease] = lease
        # Queued all the same it would wait for ever: nothing takes it, and nobody ends it again.
        if self.is_stopped:
            lease.end(Leave.SWEEP_STOPPED)
        else:
            self.queue.append(assignment.lease)

    def take(self) -> Lease:
        """Removes the oldest lease from the queue, which must not be empty, and returns it."""
        return self.by_id[self.queue.popleft()]

    def read(self, lease: Lease) -> list[News]:
        """Returns the lease's news and forgets them; a lease whose last news is among them is
        forgotten too."""
        found = list(lease.news)
        lease.news.clear()
        if any(isinstance(item, Vote | Leave) for item in found):
            self.by_id.pop(lease.assignment.lease, None)
        return found

    def of_trial(self, trial: int) -> list[Lease]:
        """Returns the leases of a trial."""
        return [lease for lease in self.by_id.values() if lease.assignment.trial == trial]

    def leave(self, lease: Lease, reason: Leave) -> None:
        """Takes the assignment from the queue, or has the slot's workers leave it. The first reason
        counts: a trial that the user cancelled is not resumed because its node goes as well."""
        lease.leave = lease.leave or reason
        if lease.assignment.lease in self.queue:
            self.queue.remove(lease.assignment.lease)

    def end(self, leases: Iterable[Lease], reason: Leave) -> None:
        """Has the workers of the leases leave, and says so at once to whoever follows them: a step
        may take long."""
        for lease in list(leases):
            # The lease stays known until its trial has read the news; only then is it forgotten.
            self.leave(lease, reason)
            lease.end(reason)

    def release(self, lease: Lease, reason: Leave) -> None:
        """Has the workers leave a lease that nobody follows any more."""
        self.leave(lease, reason)
        self.by_id.pop(lease.assignment.lease, None)

    def release_expired(self, oldest: float) -> None:
        """Releases the leases whose trials have not asked since `oldest`: Tune may have killed the
        actor of a trial, and then nothing else would ever end its work."""
        for lease in list(self.by_id.values()):
            if lease.last_asked < oldest:
                self.release(lease, Leave.ABANDONED)
