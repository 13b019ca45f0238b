"""How hidden states are stored in a cache: in a dtype, or as a position's largest logits."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainers.signal import OutputHead
from trainers.teachers import cache
from trainers.teachers.cached import read_head
from trainers.teachers.sampling import MOST_LOGITS
from trainers.top_k import TopKHead

LARGEST_FLOAT16 = 65504.0
LEAST = 1e-30


@dataclass(frozen=True)
class Storing:
    """storage: as a cache's; head: the teacher's; top_k: what packs the largest logits, None where
    hidden states are stored."""

    storage: str
    head: OutputHead
    top_k: TopKHead | None

    @classmethod
    def into(cls, folder: Path, storage: str, head: OutputHead) -> "Storing":
        """Returns how rows are stored in the cache that is built in `folder`, whose head is there
        already."""
        if cache.k_of(storage) is None:
            return cls(storage, head, None)
        found = read_head(folder, head.weight.device)
        assert isinstance(found, TopKHead), "the head is written for the cache's storage"
        return cls(storage, head, found)

    @torch.no_grad()
    def store(self, hidden: Tensor) -> tuple[Tensor, float]:
        """Returns what is stored of hidden states [N, D], on the CPU, and its error relative to
        their norm; of the largest logits relative to all centred logits. Raises `ValueError` for
        numbers that it cannot hold."""
        if self.top_k is None:
            return self._in_dtype(hidden)
        rows, error, norm = [], 0.0, 0.0
        for part in torch.split(hidden, max(1, MOST_LOGITS // self.head.vocab_size)):
            logits = self.exact(part.to(self.head.weight.device)).float()
            packed = self.top_k.pack(logits)
            error += float((self.top_k.logits(packed) - logits).double().square().sum())
            norm += float((logits - logits.mean(-1, keepdim=True)).double().square().sum())
            rows.append(packed.cpu())
        return torch.cat(rows), float((error / max(norm, LEAST)) ** 0.5)

    def exact(self, hidden: Tensor) -> Tensor:
        """Returns the teacher's logits [N, V]."""
        return self.head.logits(hidden)

    def back(self, hidden: Tensor) -> Tensor:
        """Returns the logits [N, V] that a trial gets of what is stored of `hidden`."""
        if self.top_k is not None:
            return self.top_k.logits(self.top_k.pack(self.exact(hidden)))
        return self.exact(hidden.to(getattr(torch, self.storage)).to(hidden.dtype))

    def _in_dtype(self, exact: Tensor) -> tuple[Tensor, float]:
        stored = exact.to(getattr(torch, self.storage))
        largest = float(exact.abs().max()) if exact.numel() else 0.0
        if self.storage == "float16" and largest > LARGEST_FLOAT16:
            raise ValueError(
                f"teacher cache: hidden states must be at most {LARGEST_FLOAT16:g} for float16, "
                f"but got {largest:.3g}. Use cache:bfloat16, or the teacher's own dtype."
            )
        error = (stored.double() - exact.double()).norm() / exact.double().norm().clamp_min(LEAST)
        return stored, float(error)
