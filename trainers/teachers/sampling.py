"""What a teacher says of the first positions of a split."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from trainers.parts import Split
from trainers.teachers.online import OnlineTeacher

EXAMPLES_AT_ONCE = 8
# Logits of so many entries at a time, whatever the vocabulary.
MOST_LOGITS = 1 << 24


@torch.no_grad()
def answers(teacher: OnlineTeacher, split: Split, num_positions: int) -> Iterator[Tensor]:
    """Yields hidden states [N, D] of the first `num_positions` learned positions, or of all where
    there are fewer, on the teacher's device; few enough at a time for their logits."""
    weight = teacher.head.weight
    rows = max(1, MOST_LOGITS // teacher.head.vocab_size)
    for start in range(0, len(split), EXAMPLES_AT_ONCE):
        stop = min(start + EXAMPLES_AT_ONCE, len(split))
        batch = split.collate(np.arange(start, stop)).to(weight.device)
        hidden = teacher.signal(batch).hidden[:num_positions]
        yield from torch.split(hidden, rows)
        num_positions -= len(hidden)
        if num_positions <= 0:
            return


@torch.no_grad()
def mean_logits(teacher: OnlineTeacher, split: Split, num_positions: int) -> Tensor:
    """Returns the mean [V] of centred logits over those positions, in float32."""
    total, count = torch.zeros(teacher.head.vocab_size, dtype=torch.float64), 0
    for hidden in answers(teacher, split, num_positions):
        logits = teacher.head.logits(hidden).float()
        total += (logits - logits.mean(-1, keepdim=True)).sum(0).double().cpu()
        count += len(hidden)
    return (total / max(count, 1)).float().to(teacher.head.weight.device)
