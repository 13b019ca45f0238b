"""The online maker of teacher signals: the teacher runs on every batch."""

from typing import Any, Protocol

import torch

from trainers.signal import OutputHead, TeacherSignal
from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.batches import Batch


class SignalMaker(Protocol):
    """Whatever can say what the teacher thinks of a batch."""

    def signal(self, batch: Batch) -> TeacherSignal:
        """Returns the teacher's hidden states [N, D] at the batch's positions, with its head."""


class OnlineTeacher:
    """A frozen model in evaluation mode that is asked each time."""

    def __init__(self, model: Any, *, vocab_size: int):
        """`model`: transformers' causal language model in its compute dtype, on its device."""
        self.model = model.eval().requires_grad_(False)
        self._body = models.body_of(model)
        self.head: OutputHead = models.head_of(model, vocab_size)

    @torch.no_grad()
    def signal(self, batch: Batch) -> TeacherSignal:
        """Returns the teacher's answer to `batch`; nothing of it is part of a graph."""
        # its weights have the compute dtype already; autocast would round in other places
        with torch.autocast(batch.input_ids.device.type, enabled=False):
            states = models.hidden_states(self._body, batch.input_ids)
        return TeacherSignal(hidden=states.index_select(0, batch.positions), head=self.head)
