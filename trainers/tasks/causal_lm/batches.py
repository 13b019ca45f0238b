"""Which examples make which optimiser step, and what a micro-batch holds. The order depends on the
seed alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.sampled import Sample, Sampled

# Batches that are sorted by length together: enough for little padding, and few enough that a batch
# still holds examples from all over the data.
WINDOW = 16
# Padded tokens of a batch that is only run forwards, by type of device.
MAX_BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}


@dataclass(frozen=True)
class TokenBatch:
    """Some examples of one split, padded on the right.

    input_ids: [B, T] without each example's last token; positions: [N] into the flattened [B * T],
    those whose next token is learned; labels: [N] those tokens; sequence_ids: [N] row of each;
    examples: [B] numbers in the split; teacher_hidden: [N, D] on the CPU when it was read ahead;
    sampled: who wrote the rows, None for prepared data.
    N may be 0: then input_ids is one row of padding and examples is empty.
    """

    split_name: str
    input_ids: Tensor
    positions: Tensor
    labels: Tensor
    sequence_ids: Tensor
    examples: NDArray[np.int64]
    teacher_hidden: Tensor | None = None
    sampled: Sampled | None = None

    def to(self, device: torch.device) -> "TokenBatch":
        """Returns the batch with its tensors on `device`."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "TokenBatch":
        """Returns the batch in memory that a GPU copies from while the CPU goes on."""
        return self._with(Tensor.pin_memory)

    def with_teacher_hidden(self, hidden: Tensor) -> "TokenBatch":
        """Returns the batch with the teacher's hidden states [N, D], which were read ahead."""
        return replace(self, teacher_hidden=hidden)

    def _with(self, change: Callable[[Tensor], Tensor]) -> "TokenBatch":
        # without teacher_hidden: whoever reads it ahead has pinned it, and its user moves it
        names = ("input_ids", "positions", "labels", "sequence_ids")
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in names}
        if self.sampled is not None:
            changed["sampled"] = self.sampled.map(change)
        return replace(self, **changed)


class BucketedOrder:
    """The order of the training data: step s (over all epochs) reads `examples(s)`.

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
        # one epoch is kept, since steps are read in order; any other is computed from the seed
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffle(epoch)
        return self._batches[index]

    def _shuffle(self, epoch: int) -> list[NDArray[np.int64]]:
        # a generator of its own: the order must not depend on what else draws numbers
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


def collate(
    split_name: str,
    examples: NDArray[np.int64],
    rows: Sequence[tuple[NDArray[np.int32], NDArray[np.bool_]]],
    *,
    pad_token_id: int,
) -> TokenBatch:
    """Returns the batch of `examples`, on the CPU. `rows`: the token ids of each example, and for
    each token whether it is learned."""
    # Position t predicts token t + 1: the last token of an example is never an input, the first
    # never a label.
    width = max((len(ids) - 1 for ids, _ in rows), default=1)
    input_ids = np.full((max(len(rows), 1), width), pad_token_id, dtype=np.int64)
    positions, labels, sequence_ids = [], [], []
    for row, (ids, learned) in enumerate(rows):
        input_ids[row, : len(ids) - 1] = ids[:-1]
        where = np.flatnonzero(learned[1:])
        positions.append(row * width + where)
        labels.append(ids[1:][where])
        sequence_ids.append(np.full(len(where), row))
    return TokenBatch(
        split_name=split_name,
        input_ids=torch.from_numpy(input_ids),
        positions=_joined(positions),
        labels=_joined(labels),
        sequence_ids=_joined(sequence_ids),
        examples=examples,
    )


def collate_samples(
    split_name: str,
    samples: Sequence[Sample],
    prompts: Sequence[NDArray[np.int32]],
    *,
    pad_token_id: int,
) -> TokenBatch:
    """Returns the batch of `samples` behind their `prompts`, on the CPU: every token of a sample is
    learned, the one that ended it included."""
    rows = []
    for prompt, sample in zip(prompts, samples, strict=True):
        ids = np.concatenate([prompt, np.array(sample.response.ids, np.int32)])
        rows.append((ids, np.arange(len(ids)) >= len(prompt)))
    examples = np.array([sample.example for sample in samples], dtype=np.int64)
    batch = collate(split_name, examples, rows, pad_token_id=pad_token_id)
    drawn = [np.array(sample.response.log_probs, np.float32) for sample in samples]
    facts = Sampled(
        authors=torch.tensor([int(sample.author) for sample in samples], dtype=torch.int64),
        ended=torch.tensor([sample.response.ended for sample in samples], dtype=torch.bool),
        log_probs=torch.from_numpy(np.concatenate([*drawn, np.zeros(0, np.float32)])),
    )
    return replace(batch, sampled=facts)


def groups_by_length(
    examples: NDArray[np.int64], lengths: NDArray[np.int64], *, max_tokens: int
) -> list[NDArray[np.int64]]:
    """Returns `examples` in groups of at most `max_tokens` padded tokens (at least one example
    each), the longest first. `lengths`: tokens of every example of the split."""
    order = examples[np.argsort(lengths[examples], kind="stable")[::-1]]
    bounds = group_bounds(lengths[order].tolist(), max_tokens)
    return [order[start:stop] for start, stop in bounds]


def group_bounds(lengths: Sequence[int], max_tokens: int) -> list[tuple[int, int]]:
    """Returns where to cut a falling list of lengths, as (start, stop): each group padded to its
    longest, which is its first, has at most `max_tokens` tokens, or one member."""
    bounds, start = [], 0
    while start < len(lengths):
        stop = start + max(1, max_tokens // lengths[start])
        bounds.append((start, min(stop, len(lengths))))
        start = stop
    return bounds


def _joined(parts: Sequence[NDArray[Any]]) -> Tensor:
    joined = np.concatenate(parts) if parts else np.zeros(0)
    return torch.from_numpy(joined.astype(np.int64))
