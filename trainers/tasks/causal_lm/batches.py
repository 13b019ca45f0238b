"""Which examples make which optimiser step, and how a micro-batch looks. The order hangs on the
seed alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.tasks.causal_lm.data import Split

WINDOW = 16


@dataclass(frozen=True)
class Batch:
    """Some examples of one split, padded on the right.

    input_ids: [B, T] without each example's last token; positions: [N] into the flattened [B * T],
    those whose next token is learned; labels: [N] those tokens; sequence_ids: [N] row of each;
    examples: [B] numbers in the split; teacher_hidden: [N, D] on the CPU when it was read ahead.
    N may be 0: then input_ids is one row of padding and examples is empty.
    """

    split: str
    input_ids: Tensor
    positions: Tensor
    labels: Tensor
    sequence_ids: Tensor
    examples: NDArray[np.int64]
    teacher_hidden: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch with its tensors on `device`."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """Returns the batch in memory that a GPU copies from while the CPU goes on."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        names = ("input_ids", "positions", "labels", "sequence_ids")
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in names}
        return replace(self, **changed)


class Order:
    """The order of the training data: step s of the whole training reads `examples(s)`.

    Examples are shuffled, sorted by length inside windows of 16 batches (little padding), cut into
    batches, and the batches shuffled. It depends on seed and epoch alone: never on workers or
    micro-batches.
    """

    def __init__(self, lengths: NDArray[np.int64], *, batch_size: int, seed: int):
        """`lengths`: tokens of each example; `batch_size`: examples in one optimiser step."""
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = -1
        self._batches: list[NDArray[np.int64]] = []
        self.steps_per_epoch = -(-len(lengths) // batch_size)

    def examples(self, step: int) -> NDArray[np.int64]:
        """Returns the examples of step `step` (0-based, over all epochs), sorted by length."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffle(epoch)
        return self._batches[index]

    def _shuffle(self, epoch: int) -> list[NDArray[np.int64]]:
        random = np.random.Generator(np.random.PCG64([self._seed, epoch]))
        shuffled = random.permutation(len(self._lengths))
        window = WINDOW * self._batch_size
        batches: list[NDArray[np.int64]] = []
        for start in range(0, len(shuffled), window):
            part = shuffled[start : start + window]
            part = part[np.argsort(self._lengths[part], kind="stable")]
            batches += [
                part[i : i + self._batch_size] for i in range(0, len(part), self._batch_size)
            ]
        return [batches[i] for i in random.permutation(len(batches))]


def share(
    examples: NDArray[np.int64], *, rank: int, world_size: int, parts: int
) -> list[NDArray[np.int64]]:
    """Returns the micro-batches of one rank: every `world_size`-th example (ranks get like
    lengths), cut into `parts` pieces of near-equal size, of which some are empty when there are too
    few examples."""
    return list(np.array_split(examples[rank::world_size], parts))


def collate(split: Split, examples: NDArray[np.int64], pad_token_id: int) -> Batch:
    """Returns the batch of `examples`, on the CPU."""
    tokens = [split.tokens(i) for i in examples]
    width = max((len(t) - 1 for t in tokens), default=1)
    input_ids = np.full((max(len(tokens), 1), width), pad_token_id, dtype=np.int64)
    positions, labels, rows = [], [], []
    for row, (example, ids) in enumerate(zip(examples, tokens, strict=True)):
        input_ids[row, : len(ids) - 1] = ids[:-1]
        where = np.flatnonzero(split.learned(int(example))[1:])
        positions.append(row * width + where)
        labels.append(ids[1:][where])
        rows.append(np.full(len(where), row))
    return Batch(
        split=split.name,
        input_ids=torch.from_numpy(input_ids),
        positions=_joined(positions),
        labels=_joined(labels),
        sequence_ids=_joined(rows),
        examples=examples,
    )


def evaluation_batches(split: Split, *, max_tokens: int) -> list[NDArray[np.int64]]:
    """Returns all examples of `split` in batches of at most `max_tokens` padded tokens (at least
    one example each), sorted by length."""
    order = np.argsort(split.num_tokens, kind="stable")[::-1]
    batches, start = [], 0
    while start < len(order):
        longest = int(split.num_tokens[order[start]])
        size = max(1, max_tokens // longest)
        batches.append(order[start : start + size])
        start += size
    return batches


def _joined(parts: Sequence[NDArray[Any]]) -> Tensor:
    joined = np.concatenate(parts) if parts else np.zeros(0)
    return torch.from_numpy(joined.astype(np.int64))
