"""Who wrote the text of a batch, and how likely each of its tokens was when it was drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Author(IntEnum):
    """Who wrote a response: the data set, the teacher, the student that is trained, or student and
    teacher token by token."""

    DATA = 0
    TEACHER = 1
    STUDENT = 2
    MIXTURE = 3


@dataclass(frozen=True)
class Sample:
    """One response that was drawn to the prompt of `example` (its number in the training split).

    ids: [L] its tokens, with the one that ended it; log_probs: [L] of each under the distribution
    that drew it, after temperature, top-p and mixture; ended: whether the last token ends an
    answer, and is not the last that there was room for.
    """

    example: int
    ids: NDArray[np.int32]
    log_probs: NDArray[np.float32]
    ended: bool
    author: Author


@dataclass(frozen=True)
class Sampled:
    """What is known of a batch of samples.

    For each row [B]: authors, as numbers of `Author`, and ended, as in `Sample`; log_probs: [N] of
    each label, as in `Sample`.
    """

    authors: Tensor
    ended: Tensor
    log_probs: Tensor

    @property
    def by_student(self) -> Tensor:
        """Whether the student drew the row, alone or with the teacher, [B]."""
        return (self.authors == Author.STUDENT) | (self.authors == Author.MIXTURE)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Sampled":
        """Returns the same after a `change` of each tensor, such as a move to a device."""
        return Sampled(change(self.authors), change(self.ended), change(self.log_probs))
