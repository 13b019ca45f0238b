"""Batches for the fused loss, and its comparison with the plain form."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from trainers.losses import DistillationLoss, LossContext, LossSums
from trainers.losses.context import LossInputs
from trainers.losses.fused import chunks, weight_gradient
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.catalogue import DIVERGENCES, POLICIES
from trainers.trial.config import TrialConfig
from trainers.trial.traits import Policy

PAIRS = [(name, policy) for name, row in DIVERGENCES.items() for policy in sorted(row.policies)]
# Each divergence and each policy once.
ROWS = [(name, policy) for name, policy in PAIRS if policy in (Policy.FIXED, Policy.NONE)] + [
    ("forward_kl", policy) for policy in sorted(set(Policy) - {Policy.NONE, Policy.FIXED})
]
SEQUENCE_IDS = torch.arange(200) // 9
CONTEXT = LossContext(sequence_ids=SEQUENCE_IDS, step=3, num_steps=10)


def shrink_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 10 positions, worked on 3 at a time, products and the weight's gradient 20 entries
    at a time: remainders everywhere."""
    monkeypatch.setattr(chunks, "MIN_CHUNK_ROWS", 10)
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 0)
    monkeypatch.setattr(chunks, "BLOCK_ELEMENTS", 3 * 53)
    monkeypatch.setattr(chunks, "GPU_BLOCK_ELEMENTS", 3 * 53)
    monkeypatch.setattr(weight_gradient, "PART_ROWS", 20)
    monkeypatch.setattr(chunks, "VOCAB_PART", 20)
    monkeypatch.setattr(chunks, "HUGE_PAGE_BYTES", 1)
    monkeypatch.setattr(chunks, "LARGE_BYTES", 1)


def make_batch(
    num: int = 37, vocab: int = 53, dtype: torch.dtype = torch.float64, bias: bool = True
) -> LossInputs:
    """Returns a batch drawn from the number of its positions."""
    generator = torch.Generator().manual_seed(num)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    head = OutputHead(draw(vocab, 8), draw(vocab) if bias else None)
    signal = TeacherSignal(draw(num, 12), OutputHead(0.5 * draw(vocab, 12), draw(vocab)))
    labels = torch.randint(vocab, (num,), generator=generator)
    return LossInputs(draw(num, 8), head, labels, signal)


def make_config(name: str, policy: str, **fields: object) -> TrialConfig:
    """Returns the row's config, with a temperature where the policy has one."""
    if "tau" in POLICIES[Policy(policy)].parameters:
        fields = {"tau": 2.5, **fields}
    return TrialConfig(divergence=name, policy=policy, **fields)


def run(
    config: TrialConfig, batch: LossInputs, *, fused: bool, autocast: bool = False
) -> tuple[LossSums, list[Tensor]]:
    """Returns the sums, and the gradients of their mean by hidden states, weight, bias and what is
    learned."""
    leaves = [t.clone().requires_grad_() for t in (batch.hidden, batch.head.weight)]
    if batch.head.bias is not None:
        leaves.append(batch.head.bias.clone().requires_grad_())
    head = replace(batch.head, weight=leaves[1], bias=leaves[2] if len(leaves) > 2 else None)
    loss = DistillationLoss(config, head.vocab_size, fused=fused).to(batch.hidden.device)
    if batch.hidden.dtype == torch.float64:
        loss = loss.double()
    num = batch.hidden.shape[0]
    ids = SEQUENCE_IDS[:num].to(batch.hidden.device)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        sums = loss(leaves[0], head, batch.labels, batch.signal, replace(CONTEXT, sequence_ids=ids))
    (sums.total / max(num, 1)).backward()
    grads = [leaf.grad for leaf in (*leaves, *loss.parameters())]
    assert all(grad is not None for grad in grads)
    return sums, grads  # type: ignore[return-value]


def compare(config: TrialConfig, batch: LossInputs, tolerance: float) -> None:
    """Holds sums and gradients of the fused form to those of the plain one; what is learned, a
    difference of sums that are hundreds of times as large, to a hundred times the tolerance."""
    plain, plain_grads = run(config, batch, fused=False)
    fused, fused_grads = run(config, batch, fused=True)
    pairs = [(plain.total, fused.total), (plain.hard, fused.hard), (plain.soft, fused.soft)]
    given = 2 if batch.head.bias is None else 3  # hidden states, weight, bias
    pairs += zip(plain_grads[:given], fused_grads[:given], strict=True)
    learned = zip(plain_grads[given:], fused_grads[given:], strict=True)
    allowed = [(*pair, tolerance) for pair in pairs] + [
        (*pair, 100 * tolerance) for pair in learned
    ]
    for expected, found, limit in allowed:
        assert found.dtype == expected.dtype and found.shape == expected.shape
        error = (found - expected).norm() / expected.norm().clamp_min(1e-30)
        assert error <= limit or (found - expected).abs().max() < 1e-12
    assert not fused.hard.requires_grad and not fused.soft.requires_grad
