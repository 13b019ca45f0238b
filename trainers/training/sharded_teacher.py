"""A teacher that is asked while its trial trains, each worker keeping its part of each weight."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainers.parts import Batch, Network
from trainers.signal import TeacherSignal
from trainers.students import sharding
from trainers.world import World


class ShardedTeacher:
    """A frozen model whose layers are gathered one by one as they compute; what is in no layer, an
    output head among it, is gathered once and stays."""

    def __init__(self, network: Network, world: World, some: Batch):
        """`network`: a model in its compute dtype with all weights, the same on every worker, on
        the CPU; it is taken apart. `some`: a batch to compute with for no answer."""
        network.model.eval().requires_grad_(False)
        self._network, self._world, self._some = network, world, some
        self._asked = _Asked(network)
        sharding.shard(self._asked, network.model, world)
        self._is_uneven = False

    @torch.no_grad()
    def signal(self, batch: Batch) -> TeacherSignal:
        """Returns the teacher's answer to `batch`; nothing of it is part of a graph. All workers
        ask, each about its own batch, but inside `uneven`."""
        if self._is_uneven:
            self._num_asking(1)
        # its weights have the compute dtype already; autocast would round in other places
        with torch.autocast(self._world.device.type, enabled=False):
            return TeacherSignal(hidden=self._asked(batch), head=self._network.head())

    @contextmanager
    def uneven(self) -> Iterator[None]:
        """A context in which workers ask as often as each has to. Whoever is done computes along
        for the others until all are. All workers enter it."""
        self._is_uneven = True
        try:
            yield  # where it raises, the others are not waited for
        finally:
            self._is_uneven = False
        while self._num_asking(0):
            self.signal(self._some)

    def _num_asking(self, own: int) -> int:
        """How many workers ask now; each says for itself whether it does."""
        return int(self._world.summed(torch.tensor(own, device=self._world.device)))


class _Asked(nn.Module):
    """What is called of the teacher, so that its weights are gathered."""

    def __init__(self, network: Network):
        super().__init__()
        self.model = network.model
        self._network = network  # no module itself: its model is registered once, by the line above

    def forward(self, batch: Batch) -> Tensor:
        return self._network.hidden(batch)
