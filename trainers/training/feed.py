"""Brings a worker its micro-batches, read ahead in a thread so that a step does not wait for a
disk."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.tasks.causal_lm.batches import Batch, Order, collate, share
from trainers.tasks.causal_lm.data import Split
from trainers.world import World

AHEAD = 2


@runtime_checkable
class ReadsAhead(Protocol):
    """A teacher whose signal lies on a disk."""

    def hidden(self, split: str, examples: NDArray[np.int64]) -> Tensor:
        """Returns what the disk holds for some examples."""


@dataclass(frozen=True)
class Step:
    """What one worker does in one global step: its micro-batches on the CPU, and the number of
    learned positions of the whole step, over all workers."""

    number: int
    batches: list[Batch]
    num_positions: int


@dataclass(frozen=True)
class Feed:
    """Where steps come from. Each example of a step goes to exactly one worker."""

    split: Split
    order: Order
    world: World
    pad_token_id: int
    parts: int
    teacher: object

    def step(self, number: int) -> Step:
        """Returns step `number` (0-based), read now."""
        if self._has_gpu:
            torch.cuda.set_device(self.world.device)  # a thread of its own begins with the first
        examples = self.order.examples(number)
        shares = share(examples, rank=self.world.rank, world_size=self.world.size, parts=self.parts)
        return Step(
            number=number,
            batches=[self._batch(part) for part in shares],
            num_positions=int(self.split.num_learned[examples].sum()),
        )

    def _batch(self, examples: NDArray[np.int64]) -> Batch:
        batch = collate(self.split, examples, self.pad_token_id)
        if self._has_gpu:
            batch = batch.pinned()
        if not isinstance(self.teacher, ReadsAhead):
            return batch
        return replace(batch, teacher_hidden=self.teacher.hidden(batch.split, batch.examples))

    @property
    def _has_gpu(self) -> bool:
        return self.world.device.type == "cuda"


class Ahead:
    """The steps from `start` to before `stop`, read by a thread at most two ahead. It is a context,
    whose end ends the thread, and what goes wrong while reading is raised where the step is
    wanted."""

    def __init__(self, read: Callable[[int], Step], start: int, stop: int):
        """`read` returns a step by its number."""
        self._read, self._numbers = read, range(start, stop)
        self._ready: queue.Queue[Step | BaseException] = queue.Queue(maxsize=AHEAD)
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._work, name="feed", daemon=True)

    def __enter__(self) -> "Ahead":
        """Starts reading."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the thread."""
        self._enough.set()
        while not self._ready.empty():
            self._ready.get_nowait()  # a full queue would hold the thread back
        self._thread.join()

    def next(self) -> Step:
        """Returns the next step, once it is read."""
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def _work(self) -> None:
        try:
            for number in self._numbers:
                if not self._put(self._read(number)):
                    return
        except BaseException as error:  # handed to the trainer, which raises it
            self._put(error)

    def _put(self, item: Step | BaseException) -> bool:
        while not self._enough.is_set():
            try:
                self._ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
