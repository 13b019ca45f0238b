"""Brings a worker its micro-batches, read ahead in a thread so that a step does not wait for a
disk."""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.batch_source import Step
from trainers.parts import Batch, DataOrder, Split, StoredTeacher
from trainers.world import World

MAX_AHEAD = 2


@dataclass(frozen=True)
class Feed:
    """The steps of a training on prepared data; see `trainers.batch_source.BatchSource`. Each
    example of a step goes to exactly one worker. `parts`: micro-batches per worker."""

    split: Split
    order: DataOrder
    world: World
    parts: int
    teacher: object

    needs_first_evaluation: ClassVar[bool] = False

    def evaluated(self, metrics: Mapping[str, float]) -> None:
        """Changes nothing: what is read does not depend on the training."""

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing, for the same reason."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Has nothing to load."""

    def steps(self, start: int, stop: int) -> "StepsAhead":
        """Returns the steps, read ahead."""
        return StepsAhead(self.step, start, stop)

    def step(self, number: int) -> Step:
        """Returns step `number` (0-based), read now."""
        examples = self.order.examples(number)
        return Step(
            number=number,
            batches=self.batches(examples),
            # of all workers: each can compute it, so nothing has to be exchanged
            num_positions=self.split.num_positions(examples),
        )

    def batches(self, examples: NDArray[np.int64]) -> list[Batch]:
        """Returns this worker's micro-batches of `examples`, which are all workers'."""
        if self._has_gpu:
            # The current device belongs to a thread, and a new one starts at GPU 0: memory pinned
            # there would open a context on it for every worker of the node.
            torch.cuda.set_device(self.world.device)
        shares = share(examples, rank=self.world.rank, world_size=self.world.size, parts=self.parts)
        return [self._batch(part) for part in shares]

    def _batch(self, examples: NDArray[np.int64]) -> Batch:
        batch = self.split.collate(examples)
        if self._has_gpu:
            batch = batch.pinned()
        if not isinstance(self.teacher, StoredTeacher):
            return batch
        return batch.with_teacher_hidden(self.teacher.hidden(batch.split_name, batch.examples))

    @property
    def _has_gpu(self) -> bool:
        return self.world.device.type == "cuda"


def share(
    examples: NDArray[np.int64], *, rank: int, world_size: int, parts: int
) -> list[NDArray[np.int64]]:
    """Returns the micro-batches of one rank: every `world_size`-th example (ranks get like
    lengths), cut into `parts` pieces of near-equal size, of which some are empty when there are too
    few examples."""
    return list(np.array_split(examples[rank::world_size], parts))


class StepsAhead:
    """Iterates over the steps from `start` to before `stop`, which a thread reads at most two
    ahead. It is a context, whose end ends the thread. What goes wrong while reading is raised where
    the step is wanted."""

    def __init__(self, read: Callable[[int], Step], start: int, stop: int):
        """`read` returns a step by its number."""
        self._read, self._numbers = read, range(start, stop)
        # None: there are no more
        self._ready: queue.Queue[Step | BaseException | None] = queue.Queue(maxsize=MAX_AHEAD)
        self._enough = threading.Event()
        # A daemon, so that a trial that is killed while the disk hangs does not wait for it.
        self._thread = threading.Thread(target=self._work, name="feed", daemon=True)

    def __enter__(self) -> "StepsAhead":
        """Starts reading."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the thread."""
        self._enough.set()
        # One that waits for room sees the event within its timeout; emptying the queue lets it go
        # at once.
        while not self._ready.empty():
            self._ready.get_nowait()
        self._thread.join()

    def __iter__(self) -> Iterator[Step]:
        """Returns itself."""
        return self

    def __next__(self) -> Step:
        """Returns the next step, once it is read."""
        item = self._ready.get()
        if item is None:
            raise StopIteration
        if isinstance(item, BaseException):
            raise item
        return item

    def _work(self) -> None:
        try:
            for number in self._numbers:
                if not self._put(self._read(number)):
                    return
            self._put(None)
        except BaseException as error:  # handed to the trainer, which raises it
            self._put(error)

    def _put(self, item: Step | BaseException | None) -> bool:
        """Waits for room; returns whether the item was taken, False when no more are wanted."""
        # Not one put without a timeout: it would never see the event when nobody reads any more.
        while not self._enough.is_set():
            try:
                self._ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
