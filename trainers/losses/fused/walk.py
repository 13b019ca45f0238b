"""The fused linear loss: value and gradients of hidden states and output matrix, chunk by chunk.

Logits of all positions never exist at once. Gradients are computed in the forward pass, as a
chunk's logits exist only there, and scaled in the backward pass.

What a chunk's buffer `products` holds: `hidden @ weight.T + bias` [C, V] after the matrix product;
then, block by block, the gradient of the whole loss with respect to these products, from which
`_Gradients.add` makes those of hidden states, weight and bias by matrix products again. Blocks are
disjoint rows, so one that holds a gradient already is never read as logits.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers.losses.context import LossInputs, LossSums
from trainers.losses.fused.chunks import (
    Chunk,
    blocks,
    compute_dtype,
    product_weight,
    walk,
    without_student,
)
from trainers.losses.fused.closed_form import CLOSED_FORMS
from trainers.losses.fused.kernel import by_kernel, has_kernel
from trainers.losses.fused.soft_slope import soft_slope
from trainers.losses.fused.weight_gradient import WeightGradient, scale
from trainers.losses.passes import BatchSettings, Measure
from trainers.losses.plain import cross_entropy, slope_alone
from trainers.losses.soft_term import SoftTerm
from trainers.signal import OutputHead
from trainers.trial.catalogue import POLICIES
from trainers.trial.config import TrialConfig


def fused_sums(
    config: TrialConfig, term: SoftTerm | None, settings: BatchSettings, batch: LossInputs
) -> LossSums:
    """Returns what `plain_sums` returns, with the same gradients, without [N, V] in memory."""
    loss = _BatchLoss(config, term, settings, batch)
    if not torch.is_grad_enabled():
        return loss.run(None)
    learned = settings.temperature if POLICIES[config.policy].learned else None
    head = batch.head
    inputs = (batch.hidden, head.weight, head.bias, learned, loss)
    total, hard, soft = _FusedLinear.apply(*inputs)  # type: ignore[no-untyped-call]
    return LossSums(total, hard, soft)


def measure(first_pass: Measure, batch: LossInputs) -> Tensor:
    """Returns the first pass's numbers of each position [N] or [N, k], chunk by chunk."""
    found = []
    if not first_pass.needs_student:
        # An output matrix without rows: the walk then costs the teacher's products alone.
        batch = without_student(batch)
    with torch.no_grad():
        for chunk in walk(batch, product_weight(batch)):
            assert chunk.teacher_logits is not None  # measures belong to soft losses
            labels = batch.labels[chunk.start : chunk.stop]
            for start, stop in blocks(chunk):
                logits = batch.head.of_products(chunk.products[start:stop])
                teacher = chunk.teacher_logits[start:stop]
                found.append(first_pass.of(logits, teacher, labels[start:stop]))
    return torch.cat(found) if found else batch.hidden.new_zeros(0)


@dataclass
class _Gradients:
    """Sums of gradients, in float32 or wider (hidden states' in their own dtype, as each of their
    rows is written once); None where none is needed."""

    hidden: Tensor | None
    weight: WeightGradient | None
    bias: Tensor | None
    temperature: Tensor | None

    def add(self, chunk: Chunk, weight: Tensor) -> None:
        """Adds a chunk, whose products hold the loss's gradient with respect to them."""
        inner = chunk.products
        if self.hidden is not None:
            # Padded columns hold zeros, and so do the rows of the weight that they meet.
            self.hidden[chunk.start : chunk.stop] = chunk.padded @ weight
        if self.bias is not None:
            self.bias += inner.sum(0, dtype=self.bias.dtype)
        if self.weight is not None:
            self.weight.add(inner, chunk.hidden)


class _BatchLoss:
    """One batch's loss: everything that the walk needs besides the tensors that need
    gradients."""

    def __init__(
        self, config: TrialConfig, term: SoftTerm | None, settings: BatchSettings, batch: LossInputs
    ) -> None:
        self.config, self.term, self.settings, self.batch = config, term, settings, batch
        self.dtype = compute_dtype(batch.hidden)
        self.wide = torch.promote_types(self.dtype, torch.float32)

    def run(self, gradients: _Gradients | None) -> LossSums:
        """Returns the sums, and fills `gradients` if given."""
        weight = product_weight(self.batch)
        hard, soft = torch.zeros(2, dtype=self.wide, device=self.batch.hidden.device)
        for chunk in walk(self.batch, weight):
            # The kernel, which computes gradients, needs no memory beside the chunk.
            by_chunk = gradients is not None and self._has_kernel
            whole = [(0, chunk.stop - chunk.start)]
            for start, stop in whole if by_chunk else blocks(chunk):
                block_hard, block_soft = self._block(chunk, start, stop, gradients)
                hard += block_hard
                soft += block_soft
            if gradients is not None:
                gradients.add(chunk, weight)
        if self.term is None:
            return LossSums(hard.clone(), hard, soft)
        total = self.config.hard_weight * hard + self.config.soft_weight * soft
        return LossSums(total, hard, soft)

    def _block(
        self, chunk: Chunk, start: int, stop: int, gradients: _Gradients | None
    ) -> tuple[Tensor, Tensor]:
        """Returns the sums of hard and soft loss of a block of rows, whose products it overwrites
        with the gradient, if `gradients` are wanted."""
        products = chunk.products[start:stop]
        first = chunk.start + start
        labels = self.batch.labels[first : first + stop - start]
        teacher = None if chunk.teacher_logits is None else chunk.teacher_logits[start:stop]
        settings = self.settings.rows(slice(first, first + stop - start))
        if gradients is None:
            return self._values(products, teacher, labels, settings)
        if self._has_kernel and self.term is not None and teacher is not None:
            return by_kernel(self.term, products, teacher, labels, settings)
        if self._has_closed_form:
            with torch.no_grad():
                return self._in_closed_form(products, teacher, labels, settings, gradients)
        return self._by_autograd(products, teacher, labels, settings)

    @property
    def _has_kernel(self) -> bool:
        """Whether one kernel does all elementwise work; it has one hard weight for all rows."""
        head, is_alike = self.batch.head, self.settings.label_weight is None
        has_loss = self.term is not None and is_alike and head.is_plain
        return has_loss and has_kernel(self.config, self.batch.hidden)

    @property
    def _has_closed_form(self) -> bool:
        """Whether the gradient is known in closed form."""
        return self.term is None or self.config.divergence in CLOSED_FORMS

    def _in_closed_form(
        self,
        products: Tensor,
        teacher: Tensor | None,
        labels: Tensor,
        settings: BatchSettings,
        gradients: _Gradients,
    ) -> tuple[Tensor, Tensor]:
        """Does what `_block` does, in closed form."""
        head = self.batch.head
        logits = head.of_products(products).to(self.wide)
        column = labels.unsqueeze(-1)
        # A softmax by hand, as torch's first copies a tensor whose rows are not contiguous. Until
        # it is scaled below, hard_slope is `total` times the gradient, q - 1[label] without tau.
        hard_slope = logits - logits.amax(-1, keepdim=True)
        of_label = hard_slope.gather(-1, column)
        total = hard_slope.exp_().sum(-1, keepdim=True)
        cross_entropy = total.log() - of_label
        hard_slope.scatter_add_(-1, column, -total)
        soft = torch.zeros_like(cross_entropy)
        if self.term is None or teacher is None:
            by_logits = hard_slope.mul_(total.reciprocal())
        else:
            hard_factor = torch.full_like(soft, self.config.hard_weight)
            if settings.label_weight is not None:
                hard_factor += settings.label_weight.unsqueeze(-1)
            value, slope, share = soft_slope(
                self.term, logits, teacher, column, settings, gradients.temperature
            )
            if share is not None:
                soft = soft + share * cross_entropy
                hard_factor += self.config.soft_weight * share
            soft = soft.squeeze(-1) + value
            # Straight to the products, which have left the cache, where a head without cap and
            # scale leaves nothing else to do. `logits` may be the same memory: it has served.
            out = products if head.is_plain else slope
            by_logits = torch.addcmul(slope, hard_slope, hard_factor / total, out=out)
        if by_logits is not products:
            products.copy_(_to_products(by_logits, logits, head))
        return cross_entropy.sum(), soft.sum()

    def _by_autograd(
        self,
        products: Tensor,
        teacher: Tensor | None,
        labels: Tensor,
        settings: BatchSettings,
    ) -> tuple[Tensor, Tensor]:
        """Does what `_block` does, for a divergence without a closed form."""
        with torch.enable_grad():
            leaf = products.detach().to(self.wide).requires_grad_()
            hard, soft = self._values(leaf, teacher, labels, settings)
            total = self.config.hard_weight * hard + self.config.soft_weight * soft
            if settings.label_weight is not None:
                by_label = cross_entropy(self.batch.head.of_products(leaf), labels)
                total = total + slope_alone(by_label, settings.label_weight)
            (found,) = torch.autograd.grad(hard if self.term is None else total, leaf)
        products.copy_(found)
        return hard.detach(), soft.detach()

    def _values(
        self, products: Tensor, teacher: Tensor | None, labels: Tensor, settings: BatchSettings
    ) -> tuple[Tensor, Tensor]:
        logits = self.batch.head.of_products(products)
        hard = cross_entropy(logits, labels).sum()
        if self.term is None or teacher is None:
            return hard, torch.zeros_like(hard)
        return hard, self.term.values(logits, teacher, labels, settings).sum()


def _to_products(slope: Tensor, logits: Tensor, head: OutputHead) -> Tensor:
    """Returns the gradient with respect to the products, from the one with respect to the logits
    (overwritten)."""
    if head.soft_cap is not None:
        # d/dx of cap tanh(x / cap) is 1 - tanh², and the logits are cap tanh(x / cap).
        slope.mul_(1 - (logits / head.soft_cap).square_())
    return slope if head.scale == 1.0 else slope.mul_(head.scale)


class _FusedLinear(torch.autograd.Function):
    """Total, hard and soft sums; the last two without gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        temperature: Tensor | None,
        loss: _BatchLoss,
    ) -> tuple[Tensor, Tensor, Tensor]:
        needed = ctx.needs_input_grad
        gradients = _Gradients(
            torch.zeros_like(hidden) if needed[0] else None,
            WeightGradient(weight, loss.wide) if needed[1] else None,
            torch.zeros_like(bias, dtype=loss.wide) if bias is not None and needed[2] else None,
            torch.zeros_like(temperature) if temperature is not None and needed[3] else None,
        )
        sums = loss.run(gradients if any(needed[:4]) else None)
        # Not by save_for_backward: they are not inputs or outputs, and are handed over once.
        ctx.gradients = gradients
        ctx.dtypes = [None if t is None else t.dtype for t in (hidden, bias, temperature)]
        ctx.mark_non_differentiable(sums.hard, sums.soft)
        return sums.total, sums.hard, sums.soft

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        # Taken out of the context: scaling overwrites them, so a second pass would scale twice.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError(
                "the fused loss must be back-propagated once, its gradients are given away, "
                "but got a second backward. Use the sum of both losses"
            )
        weight = None if gradients.weight is None else gradients.weight.times(grad_total)
        hidden, bias, temperature = (
            None if value is None else scale(value, grad_total, dtype)
            for value, dtype in zip(
                (gradients.hidden, gradients.bias, gradients.temperature), ctx.dtypes, strict=True
            )
        )
        return hidden, weight, bias, temperature, None
