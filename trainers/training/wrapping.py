"""How a trial's workers share its student: each has all of it, or its part of each weight."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from trainers.training.student import StudentWithLoss
from trainers.trial.sharding import Sharding
from trainers.world import World


class Wrapped(Protocol):
    """A student as its training calls it, on every worker alike."""

    is_sharded: bool
    module: nn.Module  # to be called, so that gradients are exchanged
    whole: StudentWithLoss  # with all weights, inside `gathered` alone

    def gathered(self) -> AbstractContextManager[None]:
        """Returns a context in which `whole` has the present weights. All workers enter it."""

    def micro_batch(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Returns the context of a micro-batch's forward and backward pass; `is_last` of its
        step."""

    def clip(self, parameters: list[nn.Parameter], limit: float) -> Tensor:
        """Scales the exchanged gradients to a norm of `limit` at most; returns the norm before, on
        the device."""


class Replicated:
    """A student of which every worker has all, or that of a single worker."""

    is_sharded = False

    def __init__(self, student: StudentWithLoss, world: World) -> None:
        self.whole = student
        self._is_alone = world.group is None
        self.module: nn.Module = student
        if not self._is_alone:
            # Buffers are constants (masks, rotary tables), the same on every worker, or running
            # statistics, which an evaluation makes the same: exchanging them before each step would
            # change no step.
            self.module = nn.parallel.DistributedDataParallel(
                student, process_group=world.group, broadcast_buffers=False
            )

    def gathered(self) -> AbstractContextManager[None]:
        """See `Wrapped`."""
        return nullcontext()

    def micro_batch(self, *, is_last: bool) -> AbstractContextManager[None]:
        """See `Wrapped`."""
        # Gradients add up in each worker; only the last micro-batch makes DDP exchange the sums.
        # Its wrapper decides that in the forward pass, so forward and backward are both inside.
        quiet = self._is_alone or is_last
        return nullcontext() if quiet else self.module.no_sync()  # type: ignore[operator]

    def clip(self, parameters: list[nn.Parameter], limit: float) -> Tensor:
        """See `Wrapped`."""
        return _clip(parameters, limit)


class Sharded:
    """A student of which every worker has its part of each weight, gradient and optimiser state."""

    is_sharded = True

    def __init__(self, student: StudentWithLoss, world: World) -> None:
        from trainers.students import sharding

        self._sharding = sharding
        self.whole = sharding.outline_of(student)
        self._sharded = sharding.shard(student, student.model, world)
        self.module: nn.Module = student

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """See `Wrapped`."""
        # All at once and not layer by layer: workers evaluate unequal numbers of batches, and write
        # texts of unequal lengths, so none could wait for another in each layer.
        self._sharding.fill(self.whole, self.module)
        try:
            yield
        finally:
            self._sharding.empty(self.whole)

    @contextmanager
    def micro_batch(self, *, is_last: bool) -> Iterator[None]:
        """See `Wrapped`."""
        # Each micro-batch's gradients are exchanged, since those that wait for the last one would
        # be whole; the head stays for all micro-batches, so that it is gathered once a step.
        self._sharded.set_reshard_after_backward(is_last, recurse=False)
        yield

    def clip(self, parameters: list[nn.Parameter], limit: float) -> Tensor:
        """See `Wrapped`."""
        return self._sharding.whole(_clip(parameters, limit))


def wrapped(student: StudentWithLoss, sharding: Sharding, world: World) -> Wrapped:
    """Returns a student, with the same weights on every worker, as its workers share it."""
    return Sharded(student, world) if sharding == Sharding.FSDP else Replicated(student, world)


def _clip(parameters: list[nn.Parameter], limit: float) -> Tensor:
    # after the exchange every worker has the same gradients, or its part of them, and the same norm
    with_gradient = [p for p in parameters if p.grad is not None]
    return torch.nn.utils.clip_grad_norm_(with_gradient, limit)
