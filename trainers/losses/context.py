"""What a loss is called with beside logits, and what it returns."""

from dataclasses import dataclass

from torch import Tensor
from torch.utils import _pytree

from trainers.sampled import Sampled
from trainers.signal import OutputHead, TeacherSignal
from trainers.world import World


@dataclass(frozen=True)
class LossContext:
    """sequence_ids: [N], equal for positions of one sequence, or None; step: optimiser steps done
    before this batch (from 0); num_steps: the whole training's; num_views: positions beside each
    other that are views of one image; sampled: who wrote the text, None for prepared data; world:
    the workers whose batches are looked at together."""

    sequence_ids: Tensor | None = None
    step: int = 0
    num_steps: int = 1
    num_views: int = 1
    sampled: Sampled | None = None
    world: World = World()

    def by_student(self) -> Tensor | None:
        """Returns at which of the N positions the student drew the token, alone or with the
        teacher; None where nobody drew one."""
        if self.sampled is None or self.sequence_ids is None:
            return None
        return self.sampled.by_student[self.sequence_ids]


@dataclass(frozen=True)
class LossInputs:
    """A batch's valid positions as a loss gets them: the student's last hidden states [N, D] with
    its output matrix, labels [N], and the teacher at the same positions (None: hard loss alone)."""

    hidden: Tensor
    head: OutputHead
    labels: Tensor
    signal: TeacherSignal | None


@dataclass(frozen=True)
class LossSums:
    """Sums over the N valid positions, scalars: total = hard_weight * hard + soft_weight * soft +
    sequence_weight * sequence is differentiable; the others are unweighted and cut from the graph.
    sequence: of the sequence term, None where a trial has none."""

    total: Tensor
    hard: Tensor
    soft: Tensor
    sequence: Tensor | None = None

    def parts(self) -> list[Tensor]:
        """Returns total, hard, soft, and the sequence term's where there is one."""
        parts = [self.total, self.hard, self.soft]
        return parts if self.sequence is None else [*parts, self.sequence]


# FSDP finds the tensors of what a forward pass returns by this table alone, and without them it
# would exchange no gradient of a model that is sharded in one piece.
_pytree.register_dataclass(LossSums)
