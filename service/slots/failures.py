"""What follows when a trial's attempt failed: a table of budgets and one function, both pure."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from trainers.trial.assignments import Ending


class Decision(StrEnum):
    """What follows a failed attempt."""

    RETRY = "retry"
    GIVE_UP = "give_up"


@dataclass(frozen=True)
class Budgets:
    """How many retries a trial has for each kind of failure, 0 or more.

    An exception of the trial's own would mostly come again, so it has one retry, for file systems
    and hubs that were away; a lost worker says little about the trial, and a preempted one nothing.
    """

    error: int = 1
    out_of_memory: int = 1
    lost: int = 3
    preempted: int = 100

    def of(self, ending: Ending) -> int:
        """Returns the number of retries after `ending`, which must be a failure."""
        return int(getattr(self, ending.value))


def decide(ending: Ending, failures: Counter[Ending], budgets: Budgets) -> Decision:
    """Returns what follows an attempt that ended with `ending`; `failures` counts this one already.

    Raises `ValueError` when `ending` is no failure.
    """
    if ending is Ending.DONE:
        raise ValueError("decide is about failed attempts, but got one that is done")
    return Decision.RETRY if failures[ending] <= budgets.of(ending) else Decision.GIVE_UP
