"""Measures the metrics of positions on a split, the same in every trial: neither tau nor any other
hyperparameter of the loss reaches them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers import numerics
from trainers.parts import Batch, SignalMaker, Split, Student, unevenly
from trainers.signal import TeacherSignal
from trainers.tasks.position_metrics import PositionMetric
from trainers.tasks.positions import Positions
from trainers.world import World

# Enough rows for a fast matrix product, few enough that everything computed from them stays in a
# CPU's cache; a GPU needs much work in each call.
MIN_CHUNK_ROWS, MAX_CHUNK_LOGITS = 128, {"cpu": 1 << 19, "cuda": 1 << 26}


@dataclass(frozen=True)
class PositionScores:
    """The metrics over a split. by_example: those that rank trials, of each example of the split;
    NaN for one without learned positions."""

    metrics: dict[str, float]
    by_example: dict[str, list[float]]


class PositionSums:
    """The sums over positions that a list of metrics needs, also of each of `num_examples` for
    those that are known by example. In float64, so that adding many chunks loses nothing."""

    def __init__(
        self, metrics: Iterable[PositionMetric], device: torch.device, num_examples: int = 0
    ):
        self._metrics = list(metrics)
        # a dict keeps the order and holds a function that several metrics name once
        self._quantities = list(dict.fromkeys(q for metric in self._metrics for q in metric.of))
        self._sums = torch.zeros(1 + len(self._quantities), dtype=torch.float64, device=device)
        known = dict.fromkeys(m.of[0] for m in self._metrics if m.is_by_example)
        self._columns = {quantity: 1 + i for i, quantity in enumerate(known)}
        self._by_example = torch.zeros(
            (1 + len(known), num_examples), dtype=torch.float64, device=device
        )

    def add(self, at: Positions, examples: Tensor | None = None) -> None:
        """Adds some positions; `examples` [N]: the numbers of those that they are of."""
        self._sums[0] += len(at.labels)
        if examples is not None:
            ones = torch.ones(len(examples), dtype=torch.float64, device=examples.device)
            self._by_example[0].index_add_(0, examples, ones)
        values = {quantity: quantity(at).double() for quantity in self._quantities}
        self._sums[1:] += torch.stack([value.sum() for value in values.values()])
        if examples is not None:
            for quantity, row in self._columns.items():
                self._by_example[row].index_add_(0, examples, values[quantity])

    def values(self, world: World) -> dict[str, float]:
        """Returns the metrics over the positions of all workers. To be called once, by all."""
        count, *sums = world.summed(self._sums).tolist()
        means = {q: s / max(count, 1.0) for q, s in zip(self._quantities, sums, strict=True)}
        return {m.name: m.value(*(means[quantity] for quantity in m.of)) for m in self._metrics}

    def by_example(self, world: World) -> dict[str, list[float]]:
        """Returns the metrics of each example, NaN for one without positions. To be called once, by
        all workers."""
        sums = world.summed(self._by_example)
        means = (sums / sums[0]).tolist()
        return {
            m.name: [m.value(mean) for mean in means[self._columns[m.of[0]]]]
            for m in self._metrics
            if m.is_by_example
        }


@dataclass(frozen=True)
class PositionEvaluator:
    """What stays the same while a student is measured."""

    split: Split
    metrics: Iterable[PositionMetric]
    teacher: SignalMaker | None
    world: World
    numerics: dict[str, Any]

    @torch.no_grad()
    def measure(self, student: Student) -> PositionScores:
        """Returns the metrics of a student in evaluation mode over all positions of the split, at
        temperature 1; without a teacher those that need none. All workers call it."""
        device = self.world.device
        measured = [m for m in self.metrics if self.teacher is not None or not m.needs_teacher]
        sums = PositionSums(measured, device, len(self.split))
        groups = self.split.groups(np.arange(len(self.split)), device.type)
        # Workers may have different numbers of groups: they communicate only in `values` below, and
        # where they have to, about a teacher of which each has a part.
        with unevenly(self.teacher):
            for examples in groups[self.world.rank :: self.world.size]:
                batch = self.split.collate(examples).to(device)
                with numerics.autocast(self.numerics):
                    self._add(sums, student, batch)
        return PositionScores(sums.values(self.world), sums.by_example(self.world))

    def _add(self, sums: PositionSums, student: Student, batch: Batch) -> None:
        hidden, head = student.hidden(batch), student.head()
        signal = None if self.teacher is None else self.teacher.signal(batch)
        numbers = torch.from_numpy(batch.examples).to(self.world.device)[batch.sequence_ids]
        # Logits [N, V] of all positions need not fit into memory, and several such tensors are
        # alive at once: they are made for some rows at a time.
        most = MAX_CHUNK_LOGITS[self.world.device.type]
        rows = max(MIN_CHUNK_ROWS, most // head.vocab_size)
        for start in range(0, len(batch.labels), rows):
            part = slice(start, start + rows)
            logits = head.logits(hidden[part]).float()
            teacher_logits = None
            if signal is not None:
                teacher_logits = TeacherSignal(signal.hidden[part], signal.head).logits().float()
            at = Positions(student.soften_teacher, logits, teacher_logits, batch.labels[part])
            sums.add(at, numbers[part])
