"""What passes between the driver and the Tune trial of one of its trials: a ticket on the way
there, messages on the way back. Plain data."""

from dataclasses import dataclass

from service.slots.failures import Budgets
from trainers.trial.assignments import Report, Vote
from trainers.trial.reporting import Leave
from trainers.trial.trial_file import TrialFile


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
