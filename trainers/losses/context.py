"""What a loss is called with beside logits, and what it returns."""

from dataclasses import dataclass

from torch import Tensor

from trainers.sampled import Sampled
from trainers.signal import OutputHead, TeacherSignal


@dataclass(frozen=True)
class LossContext:
    """sequence_ids: [N], equal for positions of one sequence, or None; step: optimiser steps done
    before this batch (from 0); num_steps: the whole training's; num_views: positions beside each
    other that are views of one image; sampled: who wrote the text, None for prepared data."""

    sequence_ids: Tensor | None = None
    step: int = 0
    num_steps: int = 1
    num_views: int = 1
    sampled: Sampled | None = None


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
    """Sums over the N valid positions, scalars: total = hard_weight * hard + soft_weight * soft is
    differentiable; hard and soft are unweighted and cut from the graph."""

    total: Tensor
    hard: Tensor
    soft: Tensor
