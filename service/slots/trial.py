"""A Tune trial: leases a slot, passes its reports to Tune, and retries what the slot lost.

A tiny function that asks for no CPU; the work happens in the slot. What it reports is a `Message`,
read by `service.driver.searcher` in the driver.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.slots.board import News
from service.slots.failures import Budgets, Decision, decide
from trainers.trial.assignments import Ending, Job, Report, Said, Vote
from trainers.trial.reporting import Leave
from trainers.trial.trial_file import TrialFile

POLL_S = 0.5  # Tune waits 2 s for the function of a stopped trial before it kills the actor
MESSAGE = "message"


@dataclass(frozen=True)
class Ticket:
    """What the driver gives a Tune trial: the trial's file and folder, its run, and the board's
    name."""

    trial: TrialFile
    output: str
    run_id: str | None
    board: str
    namespace: str
    budgets: Budgets = Budgets()


@dataclass(frozen=True)
class Message:
    """What a Tune trial reports. `kind`: evaluated | said | retrying | ended | cancelled.

    evaluated carries `report`; said carries `text`; ended carries the last `vote`; retrying carries
    the failed `vote` and the number of the attempt that follows; cancelled carries the `reason`.
    """

    kind: str
    trial: int
    attempt: int
    lease: str
    report: Report | None = None
    vote: Vote | None = None
    text: str = ""
    reason: Leave = Leave.NO


def train_in_slot(config: dict[str, Any]) -> None:
    """The function of every Tune trial; `config["ticket"]` is its `Ticket`."""
    import ray
    from ray import tune

    ticket: Ticket = config["ticket"]
    board = ray.get_actor(ticket.board, namespace=ticket.namespace)
    for message in follow(board, ticket, get=ray.get):
        tune.report({MESSAGE: message})


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
        job = _job(ticket, attempt)
        last: Vote | Leave = Leave.NO
        for item in _lease(board, job, get=get):
            if isinstance(item, Report):
                if item.evaluation > evaluations:
                    evaluations = item.evaluation
                    yield Message("evaluated", number, attempt, job.lease, report=item)
            elif isinstance(item, Said):
                yield Message("said", number, attempt, job.lease, text=item.text)
            else:
                last = item
        if isinstance(last, Leave):
            yield Message("cancelled", number, attempt, job.lease, reason=last)
            return
        failures[last.ending] += 1
        if (
            last.ending is Ending.DONE
            or decide(last.ending, failures, ticket.budgets) is Decision.GIVE_UP
        ):
            yield Message("ended", number, attempt, job.lease, vote=last)
            return
        attempt = get(board.attempt.remote(number, attempt + 1))
        yield Message("retrying", number, attempt, job.lease, vote=last)


def _lease(board: Any, job: Job, *, get: Any) -> Iterator[News]:
    """Yields a lease's news to its end; gives the lease back however the caller leaves."""
    get(board.submit.remote(job))
    try:
        while True:
            for item in get(board.news.remote(job.lease, POLL_S)):
                yield item
                if isinstance(item, Vote | Leave):
                    return
    finally:
        get(board.release.remote(job.lease, Leave.ABANDONED))


def _job(ticket: Ticket, attempt: int) -> Job:
    trial = ticket.trial.model_copy(update={"attempt": attempt})
    path = Path(ticket.output)
    path.mkdir(parents=True, exist_ok=True)
    trial.write(path / "trial.json")
    return Job(
        lease=f"{trial.trial}-{attempt}",
        trial=trial.trial,
        trial_json=trial.model_dump_json(),
        output=ticket.output,
        run_id=ticket.run_id,
    )
