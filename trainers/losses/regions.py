"""Soft losses of an image's regions beside its own: scaled decoupled distillation (Wei et al. 2024,
SDD). Each region is a position for whatever divergence and policy a trial has."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.losses.context import LossInputs
from trainers.signal import TeacherSignal

# What a region counts that is right where its image is wrong, or the other way round.
DISAGREEING = 2.0


@dataclass(frozen=True)
class Rows:
    """Logits [M, V] of both sides, labels [M], and how much each counts [M]; how many an image
    has."""

    student: Tensor
    teacher: Tensor
    labels: Tensor
    weight: Tensor
    per_image: int


def rows_of(batch: LossInputs, signal: TeacherSignal, regions: int) -> Rows:
    """Returns what has a soft loss: each image, the cells of a grid with `regions` of them a side
    and, of 4, the quarters; each counts as much as its image or twice. Raises `ValueError` where
    hidden states have other regions."""
    num_classes = batch.head.vocab_size
    student, teacher = (
        _with_quarters(_by_region(side, num_classes, regions), regions)
        for side in (batch.hidden, signal.hidden)
    )
    right = teacher.argmax(-1) == batch.labels[:, None]
    weight = torch.where(right == right[:, :1], 1.0, DISAGREEING).flatten()
    per_image = right.shape[1]
    labels = batch.labels.repeat_interleave(per_image)
    return Rows(student.flatten(0, 1), teacher.flatten(0, 1), labels, weight, per_image)


def _by_region(hidden: Tensor, num_classes: int, regions: int) -> Tensor:
    """Returns [N, 1 + regions², V]: the image's logits, then its cells', row by row."""
    expected = (1 + regions**2) * num_classes
    if hidden.shape[1] != expected:
        raise ValueError(
            f"with regions={regions} an image must have {expected} logits, those of its regions "
            f"among them, but got {hidden.shape[1]}"
        )
    return hidden.view(len(hidden), 1 + regions**2, num_classes)


def _with_quarters(logits: Tensor, regions: int) -> Tensor:
    """Returns [N, 21, V] where a grid has 4 cells a side: the classifier is linear, so a quarter of
    the image has the mean of its four cells' logits."""
    if regions == 2:
        return logits
    image, cells = logits[:, :1], logits[:, 1:]
    num_images, _, num_classes = cells.shape
    quarters = cells.reshape(num_images, 2, 2, 2, 2, num_classes).mean((2, 4)).flatten(1, 2)
    return torch.cat([image, quarters, cells], 1)
