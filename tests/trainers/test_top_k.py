"""Logits of their k largest and a fitted tail."""

from dataclasses import replace

import pytest
import torch
from fused_loss_support import CONTEXT, make_batch, make_config
from torch import Tensor

from trainers.losses import DistillationLoss
from trainers.losses.fused import chunks
from trainers.signal import TeacherSignal
from trainers.teachers.cache import bytes_of_position
from trainers.top_k import TopKHead


def rows_of(num: int, vocab_size: int, *, scale: float = 2.0) -> tuple[Tensor, TopKHead]:
    """Logits of rows that share how frequent tokens are, and what packs 8 of each."""
    generator = torch.Generator().manual_seed(vocab_size)
    shared = torch.randn(vocab_size, generator=generator)
    logits = scale * (shared + torch.randn(num, vocab_size, generator=generator)) + 3
    shape = (logits - logits.mean(-1, keepdim=True)).mean(0)
    return logits, TopKHead(shape, 8)


@pytest.mark.parametrize("vocab_size", [30, 5000, 70_000, 140_000])
def test_what_is_largest_and_what_is_known_of_the_rest_come_back(vocab_size: int) -> None:
    logits, head = rows_of(6, vocab_size)
    packed = head.pack(logits)
    assert packed.dtype == torch.uint8
    assert packed.shape[1] == bytes_of_position("top8", hidden_size=0, vocab_size=vocab_size)
    back = head.logits(packed)
    top = logits.topk(8, sorted=True)
    # float16 below the largest; the tail may be as large as the smallest of them, and no larger
    torch.testing.assert_close(back.gather(1, top.indices), top.values, rtol=0, atol=4e-3)
    torch.testing.assert_close(back.topk(8).values, top.values, rtol=0, atol=4e-3)
    assert torch.equal(back.amax(-1), logits.amax(-1))
    torch.testing.assert_close(back.mean(-1), logits.mean(-1), rtol=0, atol=1e-3)
    torch.testing.assert_close(back.logsumexp(-1), logits.logsumexp(-1), rtol=0, atol=2e-3)


def test_64_logits_take_at_most_300_bytes_in_every_vocabulary() -> None:
    assert bytes_of_position("top64", hidden_size=0, vocab_size=50_257) == 268
    assert bytes_of_position("top64", hidden_size=0, vocab_size=262_144) <= 300


def test_a_tail_that_is_all_shape_comes_back_whole() -> None:
    shape = torch.linspace(-4, 4, 200)
    head = TopKHead(shape - shape.mean(), 8)
    logits = torch.tensor([[0.5], [1.0], [2.0]]) * shape + torch.tensor([[1.0], [0.0], [-2.0]])
    torch.testing.assert_close(head.logits(head.pack(logits)), logits, rtol=0, atol=5e-3)


def test_flat_rows_and_rows_with_frequent_tokens_that_are_unlikely_here_keep_their_order() -> None:
    shape = torch.zeros(100)
    shape[:10] = 8.0  # frequent, and not among this row's likely ones
    head = TopKHead(shape - shape.mean(), 8)
    logits = torch.zeros(2, 100)
    logits[0, 50:58] = 5.0
    back = head.logits(head.pack(logits))
    assert back[0, :50].max() <= 5.0
    torch.testing.assert_close(back[1], logits[1], rtol=0, atol=1e-3)
    torch.testing.assert_close(back.logsumexp(-1), logits.logsumexp(-1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("wrong", [float("inf"), float("-inf"), float("nan"), 1e6])
def test_logits_that_float16_cannot_hold_are_refused(wrong: float) -> None:
    logits, head = rows_of(2, 30)
    logits[1, 3] = wrong
    with pytest.raises(ValueError, match=r"finite and within 65504 of the largest for top_k"):
        head.pack(logits)


@pytest.mark.parametrize(
    ("divergence", "policy"),
    [("forward_kl", "fixed"), ("reverse_kl", "cist"), ("total_variation", "fixed")],
)
def test_the_fused_loss_takes_packed_rows_as_the_plain_one_does(
    divergence: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "MIN_CHUNK_ROWS", 10)
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 0)
    batch = make_batch(dtype=torch.float32)
    logits, head = rows_of(len(batch.labels), batch.head.vocab_size)
    batch = replace(batch, signal=TeacherSignal(head.pack(logits), head))
    config = make_config(divergence, policy)
    losses, gradients = [], []
    for fused in (True, False):
        hidden = batch.hidden.clone().requires_grad_()
        loss = DistillationLoss(config, batch.head.vocab_size, fused=fused)
        sums = loss(hidden, batch.head, batch.labels, batch.signal, CONTEXT)
        sums.total.backward()
        losses.append(sums.soft)
        gradients.append(hidden.grad)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)
