"""A teacher's logits on a sample of the data, for looking at its soft labels before any trial."""

from pathlib import Path

import torch
from torch import Tensor

from trainers.parts import Task
from trainers.teachers import sampling
from trainers.teachers.online import OnlineTeacher
from trainers.trial.sources import Prepared


@torch.no_grad()
def teacher_logits(
    prepared: Prepared, task: Task, *, num_positions: int, trust: bool = False
) -> Tensor:
    """Returns the teacher's logits [N, V] in float32 at up to `num_positions` learned positions of
    the first validation examples."""
    runtime = task.runtime()
    data = runtime.open_data(Path(prepared.data))
    split = data.splits["validation"]
    model = runtime.load_model(
        Path(prepared.teacher),
        torch.device("cpu"),
        attention=None,
        dtype=getattr(torch, prepared.teacher_dtype or "float32"),
        trust=trust,
    )
    teacher = OnlineTeacher(runtime.network(model, data.num_classes))
    answers = sampling.answers(teacher, split, num_positions)
    return torch.cat([teacher.head.logits(hidden).float() for hidden in answers])
