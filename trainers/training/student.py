"""The student and its loss as one module, so that DDP sees everything that has a gradient."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainers import numerics as numerics_of
from trainers.losses import DistillationLoss, LossContext, LossSums
from trainers.parts import Batch, Network
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.config import TrialConfig
from trainers.trial.seen import Seen
from trainers.world import World

ALONE = World()


class StudentWithLoss(nn.Module):
    """A model with the distillation loss behind it. Calling it is what must go through a DDP
    wrapper: computed beside the wrapper, gradients would silently stay local."""

    def __init__(self, network: Network, loss: DistillationLoss, *, numerics: dict[str, Any]):
        """`numerics`: resolved ones."""
        super().__init__()
        self.model = network.model
        self.loss = loss
        self._network = network  # no module itself: its model is registered once, by the line above
        self._numerics = numerics

    @classmethod
    def build(
        cls,
        network: Network,
        config: TrialConfig,
        *,
        device: torch.device,
        numerics: dict[str, Any],
    ) -> "StudentWithLoss":
        """Returns the student of a trial with that config, its loss on `device`."""
        loss = DistillationLoss(config, network.head().vocab_size).to(device)
        return cls(network, loss, numerics=numerics)

    def hidden(self, batch: Batch) -> Tensor:
        """Returns the hidden states [N, D] at the batch's positions."""
        return self._network.hidden(batch)

    def head(self) -> OutputHead:
        """Returns the output head, a view on the model's weights."""
        return self._network.head()

    def trained_state(self) -> dict[str, Tensor]:
        """Returns what a step may change, once: the state without frozen weights and the further
        names of tied ones."""
        left_out = self._frozen_or_tied()
        return {name: value for name, value in self.state_dict().items() if name not in left_out}

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes up what `trained_state` returned; earlier versions' states have the weights in them
        that it leaves out."""
        left_out = self._frozen_or_tied()
        kept = {name: value for name, value in self.state_dict().items() if name in left_out}
        self.load_state_dict(kept | dict(state))

    def _frozen_or_tied(self) -> set[str]:
        named = dict(self.named_parameters(remove_duplicate=False))
        frozen = {name for name, parameter in named.items() if not parameter.requires_grad}
        return frozen | (named.keys() - dict(self.named_parameters()).keys())

    def soften_teacher(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Returns the teacher's logits [N, V] as the soft loss sees them now."""
        return self.loss.softened(student_logits, teacher_logits).teacher

    def forward(
        self,
        batch: Batch,
        signal: TeacherSignal | None,
        *,
        step: int,
        num_steps: int,
        world: World = ALONE,
    ) -> LossSums:
        """Returns the sums of the losses over the batch's N positions, to be divided by the caller
        once. world: those who do the same with their parts of the batch."""
        context = LossContext(
            sequence_ids=batch.sequence_ids,
            step=step,
            num_steps=num_steps,
            num_views=Seen.by(self.loss.config).num_rows,
            sampled=batch.sampled,
            world=world,
        )
        with numerics_of.autocast(self._numerics):
            return self.loss(self.hidden(batch), self.head(), batch.labels, signal, context)  # type: ignore[no-any-return]
