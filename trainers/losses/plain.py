"""The loss written the short way, with all logits in memory at once: for batches of few logits, and
as what the fused form is tested against."""

import torch
from torch import Tensor

from trainers.losses import regions
from trainers.losses.context import LossInputs, LossSums
from trainers.losses.divergences import in_float
from trainers.losses.passes import BatchSettings
from trainers.losses.soft_term import SoftTerm
from trainers.trial.config import TrialConfig

# No label is ignored: torch's default, -100, would silently leave out positions.
NO_LABEL = torch.iinfo(torch.int64).min


def cross_entropy(student_logits: Tensor, labels: Tensor) -> Tensor:
    """-log q_y at temperature 1, [N]. Raises `IndexError` for a label outside the vocabulary."""
    logits = in_float(student_logits)
    return torch.nn.functional.cross_entropy(
        logits, labels, reduction="none", ignore_index=NO_LABEL
    )


def plain_sums(
    config: TrialConfig, term: SoftTerm | None, settings: BatchSettings, batch: LossInputs
) -> LossSums:
    """Returns the sums over the positions; term None is the hard loss alone, unweighted."""
    student_logits = batch.head.logits(batch.hidden)
    by_label = cross_entropy(student_logits, batch.labels)
    hard = by_label.sum()
    if term is None or batch.signal is None:
        return LossSums(hard, hard.detach(), torch.zeros_like(hard.detach()))
    if config.regions == 1:
        soft = term.values(student_logits, batch.signal.logits(), batch.labels, settings).sum()
    else:
        rows = regions.rows_of(batch, batch.signal, config.regions)
        values = term.values(rows.student, rows.teacher, rows.labels, settings)
        soft = (rows.weight * values).sum() / rows.per_image
    total = config.hard_weight * hard + config.soft_weight * soft
    if settings.label_weight is not None:
        total = total + slope_alone(by_label, settings.label_weight)
    return LossSums(total, hard.detach(), soft.detach())


def slope_alone(by_label: Tensor, weight: Tensor) -> Tensor:
    """Returns 0, with the gradient of the cross-entropies [N] weighted by `weight` [N]."""
    slope: Tensor = torch.linalg.vecdot(weight.to(by_label.dtype), by_label - by_label.detach())
    return slope
