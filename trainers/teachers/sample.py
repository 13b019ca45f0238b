"""A teacher's logits on a sample of the data, for looking at its soft labels before any trial."""

from pathlib import Path

import torch
from torch import Tensor

from trainers.tasks.causal_lm import models
from trainers.tasks.causal_lm.batches import collate
from trainers.tasks.causal_lm.data import DataFacts, Split
from trainers.teachers.online import OnlineTeacher
from trainers.trial.sources import Prepared

EXAMPLES_AT_ONCE = 8


@torch.no_grad()
def teacher_logits(prepared: Prepared, *, num_positions: int, trust: bool = False) -> Tensor:
    """Returns the teacher's logits [N, V] in float32 at up to `num_positions` response positions of
    the first validation examples, V the real vocabulary."""
    data = Path(prepared.data)
    facts, split = DataFacts.read(data), Split.open(data, "validation")
    model = models.load(Path(prepared.teacher), attention=None, dtype=torch.float32, trust=trust)
    teacher = OnlineTeacher(model, vocab_size=facts.vocab_size)
    found: list[Tensor] = []
    wanted = num_positions
    for start in range(0, len(split.num_tokens), EXAMPLES_AT_ONCE):
        stop = min(start + EXAMPLES_AT_ONCE, len(split.num_tokens))
        examples = torch.arange(start, stop).numpy()
        signal = teacher.signal(collate(split, examples, facts.pad_token_id))
        found.append(signal.head.logits(signal.hidden[:wanted]).float())
        wanted -= len(found[-1])
        if wanted <= 0:
            break
    return torch.cat(found)
