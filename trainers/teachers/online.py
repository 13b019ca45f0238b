"""The online maker of teacher signals: the teacher runs on every batch."""

import torch

from trainers.parts import Batch, Network
from trainers.signal import TeacherSignal


class OnlineTeacher:
    """A frozen model in evaluation mode that is asked each time."""

    def __init__(self, network: Network):
        """`network`: a model in its compute dtype, on its device. It is frozen here."""
        network.model.eval().requires_grad_(False)
        self.network = network
        self.head = network.head()

    @torch.no_grad()
    def signal(self, batch: Batch) -> TeacherSignal:
        """Returns the teacher's answer to `batch`; nothing of it is part of a graph."""
        # its weights have the compute dtype already; autocast would round in other places
        with torch.autocast(self.head.weight.device.type, enabled=False):
            return TeacherSignal(hidden=self.network.hidden(batch), head=self.head)
