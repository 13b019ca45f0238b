"""How a trial follows its leases: over as many attempts as it takes, to its end. No Ray."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service.slots.failures import Decision, decide
from service.slots.leases import News
from service.slots.messages import Message, Ticket
from trainers.trial.assignments import Assignment, Ending, Report, Said, Vote
from trainers.trial.reporting import Leave

# Tune waits 2 s for the function of a stopped trial before it kills the actor. The function sees
# that it is stopped only in `tune.report` or once the board says so, so it never waits longer.
POLL_S = 0.5


def follow(board: Any, ticket: Ticket, *, get: Any) -> Iterator[Message]:
    """Yields what happens to the trial until it has ended, over as many attempts as its budgets
    allow.

    `board` is the actor's handle, `get` turns its answers into values.
    """
    trial, number = ticket.trial, ticket.trial.trial
    failures: Counter[Ending] = Counter()
    evaluations = 0
    attempt = get(board.attempt.remote(number, trial.attempt))
    while True:
        assignment = _assignment(ticket, attempt)
        last: Vote | Leave = Leave.NO
        for item in _lease(board, assignment, get=get):
            if isinstance(item, Report):
                # An attempt that goes on from a checkpoint repeats evaluations behind it.
                if item.evaluation > evaluations:
                    evaluations = item.evaluation
                    yield Message("evaluated", number, attempt, assignment.lease, report=item)
            elif isinstance(item, Said):
                yield Message("said", number, attempt, assignment.lease, text=item.text)
            else:
                last = item
        if isinstance(last, Leave):
            yield Message("cancelled", number, attempt, assignment.lease, reason=last)
            return
        failures[last.ending] += 1
        if (
            last.ending is Ending.DONE
            or decide(last.ending, failures, ticket.budgets) is Decision.GIVE_UP
        ):
            yield Message("ended", number, attempt, assignment.lease, vote=last)
            return
        attempt = get(board.attempt.remote(number, attempt + 1))
        yield Message("retrying", number, attempt, assignment.lease, vote=last)


def _lease(board: Any, assignment: Assignment, *, get: Any) -> Iterator[News]:
    """Yields a lease's news to its end; gives the lease back however the caller leaves: Tune ends
    the function by raising `SystemExit` in it."""
    get(board.submit.remote(assignment))
    try:
        while True:
            for item in get(board.news.remote(assignment.lease, POLL_S)):
                yield item
                if isinstance(item, Vote | Leave):
                    return
    finally:
        get(board.release.remote(assignment.lease, Leave.ABANDONED))


def _assignment(ticket: Ticket, attempt: int) -> Assignment:
    trial = ticket.trial.model_copy(update={"attempt": attempt})
    path = Path(ticket.output)
    path.mkdir(parents=True, exist_ok=True)
    trial.write(path / "trial.json")
    return Assignment(
        lease=f"{trial.trial}-{attempt}",
        trial=trial.trial,
        trial_json=trial.model_dump_json(),
        output=ticket.output,
        run_id=ticket.run_id,
    )
