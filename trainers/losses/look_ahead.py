"""Temperatures that look one step ahead: moved so that the step which a batch asks for makes other
examples of the training data likelier.

Our reading of "Meta Knowledge Distillation" (2202.07940), whose update is not public. Its step is
one of plain gradient descent; here of the output matrix alone, which a loss has at hand, while the
hidden states stay. With h_i the hidden states of the positions that step and D_i the gradient of
their mean loss by the products h_i W', those of another position j then move by -step Σ_i (h_i·h_j)
D_i, so that no matrix as large as W is made, and a few positions of each side suffice.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trainers.losses.context import LossContext, LossInputs
from trainers.losses.passes import BatchSettings
from trainers.losses.plain import cross_entropy
from trainers.losses.soft_term import SoftTerm
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.config import TrialConfig

# Positions of each of the two sides: their logits are all in memory, several times.
MOST_POSITIONS = 64
# Half of the difference in m by which the gradient's change is measured: its error is of second
# order, some 1e-5 of it, and rounding in float32 as small.
DIFFERENCE = 3e-3


class LookAheadTemperature(nn.Module):
    """tau · reach^tanh(m) for teacher and student apart, each m a parameter that starts at 0 and
    that the student's optimiser moves down the gradient of `steer`."""

    def __init__(self, tau: float, reach: float, step: float) -> None:
        super().__init__()
        self.tau, self.reach, self.step = tau, reach, step
        self.m = nn.Parameter(torch.zeros(2))

    def of(self, m: Tensor) -> Tensor:
        """Returns the temperatures of teacher and student [2], without gradient."""
        return self.tau * self.reach ** torch.tanh(m.detach())

    def forward(self, context: LossContext, batch: LossInputs) -> Tensor:
        """Returns both for each position, [N, 2]."""
        return self.of(self.m).expand(len(batch.labels), 2)

    def value(self, *sides: Tensor) -> Tensor:
        """Returns the same for N positions' logits."""
        return self.of(self.m).expand(len(sides[0]), 2)

    def steer(
        self, term: SoftTerm, settings: BatchSettings, batch: LossInputs, context: LossContext
    ) -> Tensor:
        """Returns 0 with a gradient by m: N times that of the mean cross-entropy of positions of
        every second text, after a step on the texts between them. Text that the student wrote is
        left out; where there are not two others the gradient is 0."""
        step, held = two_sides(batch, context)
        slope = torch.zeros_like(self.m)
        if len(step) and len(held):
            ahead = _Ahead.of(term, settings, batch, step)
            slope = self._slope(ahead, _Side.of(batch, held))
        steered: Tensor = len(batch.labels) * torch.dot(slope, self.m - self.m.detach())
        return steered

    @torch.no_grad()
    def _slope(self, ahead: "_Ahead", held: "_Side") -> Tensor:
        """Returns the gradient [2] of the held positions' cross-entropy after the step."""
        products = held.hidden @ ahead.side.hidden.T  # [H, S]
        moved = held.products - self.step * (products @ ahead.gradient(self.of(self.m)))
        # By the gradient that the step takes: what a change of that one would be worth.
        worth = products.T @ held.slope(moved) * -self.step
        found = []
        for one in torch.eye(2, dtype=self.m.dtype, device=self.m.device) * DIFFERENCE:
            above, below = (ahead.gradient(self.of(self.m + sign * one)) for sign in (1, -1))
            found.append(torch.sum((above - below) * worth) / (2 * DIFFERENCE))
        return torch.stack(found).to(self.m.dtype)


@dataclass(frozen=True)
class _Side:
    """Some positions: hidden states [S, D], the products `hidden @ weight.T + bias` [S, V], both in
    float32 or wider, labels [S] and the head."""

    hidden: Tensor
    products: Tensor
    labels: Tensor
    head: OutputHead

    @classmethod
    def of(cls, batch: LossInputs, where: Tensor) -> "_Side":
        head, rows = batch.head, batch.hidden.detach()[where]
        bias = None if head.bias is None else head.bias.detach()
        products = torch.nn.functional.linear(rows, head.weight.detach(), bias)
        wide = torch.promote_types(products.dtype, torch.float32)
        return cls(rows.to(wide), products.to(wide), batch.labels[where], head)

    def slope(self, products: Tensor) -> Tensor:
        """Returns the gradient [S, V] of the mean cross-entropy by the products."""
        with torch.enable_grad():
            leaf = products.detach().requires_grad_()
            value = cross_entropy(self.head.of_products(leaf), self.labels).mean()
            return torch.autograd.grad(value, leaf)[0]


@dataclass(frozen=True)
class _Ahead:
    """The positions that step, and their loss: a function of the temperatures alone."""

    side: _Side
    term: SoftTerm
    settings: BatchSettings
    teacher: Tensor

    @classmethod
    def of(
        cls, term: SoftTerm, settings: BatchSettings, batch: LossInputs, where: Tensor
    ) -> "_Ahead":
        assert batch.signal is not None  # there is a soft loss
        with torch.no_grad():
            teacher = TeacherSignal(batch.signal.hidden[where], batch.signal.head).logits()
            return cls(_Side.of(batch, where), term, settings.rows(where), teacher)

    def gradient(self, temperature: Tensor) -> Tensor:
        """Returns the gradient [S, V] of the mean loss by the products, at both temperatures."""
        settings = replace(self.settings, temperature=temperature.expand(len(self.teacher), 2))
        side, config = self.side, self.term.config
        with torch.enable_grad():
            leaf = side.products.detach().requires_grad_()
            logits = side.head.of_products(leaf)
            soft = self.term.values(logits, self.teacher, side.labels, settings).mean()
            hard = cross_entropy(logits, side.labels).mean()
            total = config.hard_weight * hard + config.soft_weight * soft
            return torch.autograd.grad(total, leaf)[0]


def two_sides(batch: LossInputs, context: LossContext) -> tuple[Tensor, Tensor]:
    """Returns places of positions of the first, third, … text and of those between them, up to
    MOST_POSITIONS evenly spread over each; of texts that the student did not write. Without
    sequence ids each position is a text."""
    places = torch.arange(len(batch.labels), device=batch.labels.device)
    ids, by_student = context.sequence_ids, context.by_student()
    if by_student is not None:
        places = places[~by_student]
    _, text = torch.unique_consecutive(places if ids is None else ids[places], return_inverse=True)
    first, second = (_thinned(places[text % 2 == parity]) for parity in (0, 1))
    return first, second


def _thinned(places: Tensor) -> Tensor:
    count = len(places)
    if count <= MOST_POSITIONS:
        return places
    return places[torch.arange(MOST_POSITIONS, device=places.device) * count // MOST_POSITIONS]


def look_ahead_temperature(config: TrialConfig, vocab_size: int) -> LookAheadTemperature:
    """Returns the temperatures of policy `look_ahead`."""
    assert config.tau is not None and config.look_ahead_range is not None
    assert config.look_ahead_step is not None  # TrialConfig fills them in
    return LookAheadTemperature(config.tau, config.look_ahead_range, config.look_ahead_step)
