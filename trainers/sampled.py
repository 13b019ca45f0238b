"""Who wrote the text of a batch, and how likely each of its tokens was when it was drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor

from trainers.responses import Response


class Author(IntEnum):
    """Who wrote a response: the data set, the teacher, the student that is trained, or student and
    teacher token by token."""

    DATA = 0
    TEACHER = 1
    STUDENT = 2
    MIXTURE = 3


@dataclass(frozen=True)
class Sample:
    """A response that was drawn to the prompt of `example` (its number in the training split), and
    by whom."""

    example: int
    response: Response
    author: Author


@dataclass(frozen=True)
class Sampled:
    """What is known of a batch of samples.

    For each row [B]: authors, as numbers of `Author`, and ended, as in `Response`; log_probs: [N]
    of each label, as in `Response`.
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
