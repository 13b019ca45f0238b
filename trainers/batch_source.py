"""The interfaces behind which a training's batches are made: read, or written while it trains; no
torch."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from trainers.parts import Batch, Network, TaskRuntime
from trainers.trial.config import TrialConfig
from trainers.trial.sources import TeacherText

if TYPE_CHECKING:
    from trainers.responses import SampleKey
    from trainers.sampled import Sample


@dataclass(frozen=True)
class Step:
    """What one worker does in one global step: its micro-batches on the CPU, and the number of
    learned positions of the step over all workers. write_s: seconds in which its text was
    written."""

    number: int
    batches: Sequence[Batch]
    num_positions: int
    write_s: float = 0.0


class BatchSource(Protocol):
    """Where a training's batches come from."""

    @property
    def needs_first_evaluation(self) -> bool:
        """Whether `evaluated` has to be called before the first step, too."""

    def evaluated(self, metrics: Mapping[str, float]) -> None:
        """Takes note of the metrics of an evaluation; on every worker, with the same."""

    def state_dict(self) -> dict[str, Any]:
        """Returns what the steps still to come depend on, as tensors and plain values, the same on
        every worker."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` returned in a process that ended."""

    def steps(self, start: int, stop: int) -> AbstractContextManager[Iterator[Step]]:
        """Returns a context that yields the steps `start` to `stop` - 1 (0-based) in order. Whether
        a step is made ahead of time is up to the source; its end frees what that took."""


class Writer(Protocol):
    """Writes text to learn from with the student's present weights."""

    def write(self, asked: "Sequence[SampleKey]") -> "list[Sample]":
        """Returns a sample for each key, an example of the training split and a number that it is
        given once in a training, in their order. It depends on the weights, the trial's seed and
        the key."""

    def collate(self, samples: "Sequence[Sample]") -> Batch:
        """Returns the batch of `samples` behind their prompts, on the CPU."""


@runtime_checkable
class WritesText(TaskRuntime, Protocol):
    """The runtime of a task whose students can learn from what they, or the teacher, write."""

    def writer(
        self,
        config: TrialConfig,
        data: Any,
        *,
        student: Network,
        teacher: Network | None,
        numerics: dict[str, Any],
    ) -> Writer:
        """Returns what writes as the config says, with the network `student`, which is trained, and
        with the teacher where that has a share in it; `numerics`: resolved ones."""

    def teacher_writer(
        self,
        asked: TeacherText,
        data: Any,
        *,
        teacher: Network,
        max_tokens: int,
        numerics: dict[str, Any],
    ) -> Writer:
        """Returns what writes the `teacher`'s text as asked, `max_tokens` a response at most. It
        depends on the weights, the seed that is asked for and the keys."""

    def write_responses(self, data: Path, samples: "Sequence[Sample]", folder: Path) -> None:
        """Writes the prepared `data` into `folder` so that its training split has an example for
        each of `samples`, in their order."""
