"""The student and its loss as one module, so that DDP sees everything that has a gradient."""

from typing import Any

from torch import Tensor, nn

from trainers import numerics as numerics_of
from trainers.losses import DistillationLoss, LossContext, LossSums
from trainers.signal import OutputHead, TeacherSignal
from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.batches import Batch


class StudentWithLoss(nn.Module):
    """A causal language model with the distillation loss behind it. Calling it is what must go
    through a DDP wrapper: computed beside the wrapper, gradients would silently stay local."""

    def __init__(self, model: Any, loss: DistillationLoss, *, vocab_size: int, numerics: Any):
        """`model`: transformers' causal language model; `vocab_size`: real entries V; `numerics`:
        resolved."""
        super().__init__()
        self.model = model
        self.loss = loss
        self.vocab_size = vocab_size
        self._numerics = numerics
        self._body = [models.body_of(model)]  # in a list: a second name would register it twice

    def hidden(self, batch: Batch) -> Tensor:
        """Returns the hidden states [N, D] at the batch's positions."""
        states = models.hidden_states(self._body[0], batch.input_ids)
        return states.index_select(0, batch.positions)

    def head(self) -> OutputHead:
        """Returns the output head, a view on the model's weights."""
        return models.head_of(self.model, self.vocab_size)

    def forward(
        self, batch: Batch, signal: TeacherSignal | None, *, step: int, num_steps: int
    ) -> LossSums:
        """Returns the sums of the losses over the batch's N positions, to be divided by the caller
        once."""
        context = LossContext(sequence_ids=batch.sequence_ids, step=step, num_steps=num_steps)
        with numerics_of.autocast(self._numerics):
            return self.loss(self.hidden(batch), self.head(), batch.labels, signal, context)  # type: ignore[no-any-return]
