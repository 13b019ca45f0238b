"""What the sequence term makes of a batch: the positions whose tokens the student drew, and the
first pass over them."""

from dataclasses import replace

import torch
from torch import Tensor

from trainers.losses.context import LossContext, LossInputs
from trainers.losses.divergences import label_log_probabilities
from trainers.losses.fused.walk import measure
from trainers.losses.passes import Measure
from trainers.losses.sequence import (
    SEQUENCE_FUNCTIONS,
    Drawn,
    TokenLoss,
)
from trainers.trial.config import TrialConfig

LABEL_LOG_PROBABILITIES = Measure(label_log_probabilities, needs_student=True)


@torch.no_grad()
def sequence_loss(config: TrialConfig, batch: LossInputs, context: LossContext) -> TokenLoss:
    """Returns the config's sequence term at the N positions: 0 where the student did not draw the
    token. Every worker has to call it, for what is exchanged."""
    where = drawn_positions(context, batch.labels)
    student, teacher = _log_probabilities(_only(batch, where)).unbind(-1)
    drawn = Drawn(student, teacher, *_facts(context, where, student))
    found = SEQUENCE_FUNCTIONS[config.sequence_term](config, drawn, context.world)
    zeros = student.new_zeros(len(batch.labels))
    return TokenLoss(zeros.index_put((where,), found.value), zeros.index_put((where,), found.slope))


def drawn_positions(context: LossContext, labels: Tensor) -> Tensor:
    """Returns the numbers of the positions whose token the student drew, rising."""
    by_student = context.by_student()
    return labels[:0] if by_student is None else by_student.nonzero().squeeze(-1)


def _log_probabilities(batch: LossInputs) -> Tensor:
    """Returns log q and log p of the labels [N, 2], chunk by chunk."""
    return measure(LABEL_LOG_PROBABILITIES, batch).reshape(len(batch.labels), 2)


def _only(batch: LossInputs, where: Tensor) -> LossInputs:
    assert batch.signal is not None  # without a teacher there is no sequence term
    signal = replace(batch.signal, hidden=batch.signal.hidden[where])
    return LossInputs(batch.hidden[where], batch.head, batch.labels[where], signal)


def _facts(context: LossContext, where: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the log-probabilities under what drew the tokens, and the ids of their texts."""
    if context.sampled is None or context.sequence_ids is None:
        return like, where
    return context.sampled.log_probs[where].to(like.dtype), context.sequence_ids[where]
