"""Who writes the text of which step: the student's share as it moves, and the coins.

What is decided for a step depends on the trial's seed, the step's number and the validation losses
so far, so it is the same on every worker, and trials of one seed share their coins.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from trainers.trial.fields import Text
from trainers.trial.text_fields import FreshSchedule, ShareOf, ShareSchedule

# Which of a step's numbers are drawn.
COIN = 1
# ImitKD's decays, as its code has them.
EXPONENTIAL_BASE = 200.0
SIGMOID_SLOPE = 20.0
# DistiLLM's: how much the validation loss has to grow, and the share with it.
TOLERANCE, GROWTH = 0.1, 0.1


class Kind(IntEnum):
    """Where the text of a sequence comes from."""

    DATA = 0
    REPLAYED = 1
    FRESH = 2


@dataclass
class Shares:
    """The student's share of the text of one training. reached: what the adaptive schedule has
    grown to; reference: the validation loss that it compares with, None before the first."""

    text: Text
    seed: int
    num_steps: int
    reached: float = 0.0
    reference: float | None = None

    def student(self, step: int) -> float:
        """Returns the share of step `step` (0-based)."""
        if self.text.share_schedule == ShareSchedule.ADAPTIVE:
            return self.reached
        return self.text.student_share * (1 - self._data(step / self.num_steps))

    def fresh(self, step: int, *, is_full: bool) -> float:
        """Returns the share of text that the student writes anew; the rest of its own is replayed.
        is_full: whether there is all to replay that is ever kept."""
        part = {
            FreshSchedule.DECREASING: 1 - step / self.num_steps,
            FreshSchedule.CONSTANT: 0.5,
            FreshSchedule.INCREASING: step / self.num_steps,
        }
        share = self.student(step)
        return share * part[self.text.fresh_schedule] if is_full else share

    def kinds(self, step: int, count: int, *, is_full: bool) -> NDArray[np.int64]:
        """Returns the `Kind` of each of the `count` sequences of a step."""
        is_each = self.text.share_of != ShareOf.STEPS
        coins = np.broadcast_to(throw(self.seed, step, count if is_each else 1), count)
        is_fresh = coins < self.fresh(step, is_full=is_full)
        is_own = coins < self.student(step)
        return np.where(is_fresh, Kind.FRESH, np.where(is_own, Kind.REPLAYED, Kind.DATA))

    def evaluated(self, loss: float) -> None:
        """Takes note of a validation loss, the first one before any step: the adaptive share grows
        where it is above the last that made it grow, or the first, by the tolerance."""
        if self.reference is None:
            self.reference = loss
        elif loss >= self.reference + TOLERANCE:
            self.reached = min(self.reached + GROWTH, self.text.student_share)
            self.reference = loss

    def _data(self, done: float) -> float:
        """The data's share of what the student could write, by the share of the steps that are
        done."""
        return {
            ShareSchedule.CONSTANT: 0.0,
            ShareSchedule.LINEAR: 1 - done,
            ShareSchedule.EXPONENTIAL: math.pow(EXPONENTIAL_BASE, -done),
            ShareSchedule.REVERSE_SIGMOID: 1 / (1 + math.exp(SIGMOID_SLOPE * (done - 0.5))),
        }[self.text.share_schedule]


def throw(seed: int, step: int, count: int) -> NDArray[np.float64]:
    """Returns `count` numbers in [0, 1) that depend on seed and step alone."""
    return np.random.Generator(np.random.PCG64([seed, step, COIN])).random(count)
