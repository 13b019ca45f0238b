"""What a batch gets from its teacher, and how hidden states become logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.top_k import TopKHead


@dataclass(frozen=True)
class OutputHead:
    """The last step of a language model: `logits = cap(scale * (hidden @ weight.T + bias))`.

    weight: [V, D]; bias: [V] or None; soft_cap c: `c * tanh(logits / c)` (Gemma); scale: factor
    (Cohere, Granite). V counts the real vocabulary only: padding rows are cut before a head is
    made. is_identity: hidden states are the logits already, as where classes are few, or begin with
    them; then `weight` is the identity matrix and no product is computed.
    """

    weight: Tensor
    bias: Tensor | None = None
    soft_cap: float | None = None
    scale: float = 1.0
    is_identity: bool = False

    @classmethod
    def identity(
        cls, num_classes: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> "OutputHead":
        """Returns the head of a model whose hidden states are its logits."""
        return cls(torch.eye(num_classes, device=device, dtype=dtype), is_identity=True)

    @property
    def vocab_size(self) -> int:
        """Number of real vocabulary entries V."""
        return self.weight.shape[0]

    @property
    def is_plain(self) -> bool:
        """Whether logits are the products themselves."""
        return self.scale == 1.0 and self.soft_cap is None

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns logits [N, V] of hidden [N, D], in the dtype that the matrix product gives."""
        if self.is_identity:
            return hidden[:, : self.vocab_size]
        return self.of_products(torch.nn.functional.linear(hidden, self.weight, self.bias))

    def of_products(self, products: Tensor) -> Tensor:
        """Returns logits of `hidden @ weight.T + bias`: scaled and capped, or as they are."""
        logits = products if self.scale == 1.0 else products * self.scale
        if self.soft_cap is None:
            return logits
        return self.soft_cap * torch.tanh(logits / self.soft_cap)


@dataclass(frozen=True)
class TeacherSignal:
    """The teacher's answer for N positions: hidden [N, D_t] with its head, never part of the
    graph. Of a cache that stores the largest logits alone, `hidden` are packed rows (uint8)."""

    hidden: Tensor
    head: OutputHead | TopKHead

    def logits(self) -> Tensor:
        """Returns the teacher's logits [N, V], computed in the dtype of its head."""
        with torch.autocast(self.hidden.device.type, enabled=False):
            return self.head.logits(self.hidden)
