"""What passes between a slot's workers and whoever hands out its trials. Neither torch nor Ray."""

from dataclasses import dataclass
from enum import StrEnum

from trainers.trial.reporting import Leave, TrialResult


class Ending(StrEnum):
    """How an assignment ended in its slot."""

    DONE = "done"  # the trial says how: TrialResult.outcome
    ERROR = "error"  # an exception of the trial's own
    OUT_OF_MEMORY = "out_of_memory"  # of the device or the process
    PREEMPTED = "preempted"  # its node was announced to go; a checkpoint is written
    LOST = "lost"  # a worker died, hung or was killed


class Instruction(StrEnum):
    """What a worker gets when there is no assignment for it and no trial to leave."""

    WAIT = "wait"  # nothing yet: ask again
    QUIT = "quit"  # no more assignments: return
    DIE = "die"  # this group of workers is over: end the process


@dataclass(frozen=True)
class LeaveTrial:
    """The lease whose trial has to leave at its next step boundary, and why."""

    lease: str
    reason: Leave


@dataclass(frozen=True)
class Assignment:
    """One attempt at a trial: the lease it runs under, the text of its trial.json, the folder for
    what it writes, and the id of its MLflow run (None: its metrics go to the reports alone)."""

    lease: str
    trial: int
    trial_json: str
    output: str
    run_id: str | None = None


@dataclass(frozen=True)
class Vote:
    """How an assignment ended on one rank. `result` is set with DONE; `error` says what happened
    otherwise."""

    ending: Ending
    result: TrialResult | None = None
    error: str = ""


@dataclass(frozen=True)
class Report:
    """Validation metrics of one evaluation (1-based), on the way from a worker to its trial."""

    evaluation: int
    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Said:
    """Something that a worker wants the user to know about its trial; it ends nothing."""

    text: str
