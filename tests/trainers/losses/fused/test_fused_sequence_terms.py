"""A sequence term beside hard and soft loss: values and gradients of a batch, plain and fused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from fused_loss_support import SEQUENCE_IDS, make_batch, make_config, shrink_chunks
from torch import Tensor

from trainers.losses import DistillationLoss, LossContext, LossSums
from trainers.losses.context import LossInputs
from trainers.losses.sequence import SEQUENCE_FUNCTIONS, Drawn
from trainers.sampled import Author, Sampled
from trainers.trial.config import TrialConfig
from trainers.world import World

NUM = 37
# SEQUENCE_IDS has nine tokens a text; the last has one.
AUTHORS = [Author.STUDENT, Author.DATA, Author.MIXTURE, Author.TEACHER, Author.STUDENT]
WRITTEN = torch.tensor([a in (Author.STUDENT, Author.MIXTURE) for a in AUTHORS])[SEQUENCE_IDS[:NUM]]
TERMS: dict[str, dict[str, Any]] = {
    "kl_reward": {"sequence_term": "kl_reward"},
    "k2": {"sequence_term": "k2", "importance_weight": "token", "sequence_weight": 0.3},
    "minillm": {
        "sequence_term": "kl_reward",
        "importance_weight": "token",
        "clip_ratio": 0.2,
        "discount": 0.95,
        "length_norm": "length",
        "whiten": True,
    },
    "texts": {"sequence_term": "kl_reward", "importance_weight": "sequence", "discount": 1.0},
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_chunks(monkeypatch)


def sampled_of(batch: LossInputs) -> Sampled:
    """Log-probabilities near the student's own."""
    sides = batch.head.logits(batch.hidden).log_softmax(-1)
    own = sides.gather(-1, batch.labels.unsqueeze(-1)).squeeze(-1).detach()
    noise = 0.3 * torch.randn(NUM, generator=torch.Generator().manual_seed(1), dtype=own.dtype)
    authors = torch.tensor([int(author) for author in AUTHORS])
    known = torch.where(WRITTEN, own + noise, torch.nan)
    return Sampled(authors, torch.ones(len(AUTHORS), dtype=torch.bool), known)


def run(
    config: TrialConfig, batch: LossInputs, sampled: Sampled | None, *, fused: bool
) -> tuple[LossSums, list[Tensor]]:
    """The sums, and the gradients by hidden states and output matrix."""
    leaves = [t.clone().requires_grad_() for t in (batch.hidden, batch.head.weight)]
    head = replace(batch.head, weight=leaves[1])
    loss = DistillationLoss(config, head.vocab_size, fused=fused).double()
    context = LossContext(sequence_ids=SEQUENCE_IDS[:NUM], num_steps=10, sampled=sampled)
    sums = loss(leaves[0], head, batch.labels, batch.signal, context)
    sums.total.backward()
    return sums, [leaf.grad for leaf in leaves]  # type: ignore[misc]


def by_hand(
    config: TrialConfig, batch: LossInputs, sampled: Sampled
) -> tuple[Tensor, list[Tensor]]:
    """The term's value, and its gradients by autograd through log q of the tokens."""
    leaves = [t.clone().requires_grad_() for t in (batch.hidden, batch.head.weight)]
    column = batch.labels.unsqueeze(-1)
    logits = replace(batch.head, weight=leaves[1]).logits(leaves[0])
    log_q = logits.log_softmax(-1).gather(-1, column).squeeze(-1)[WRITTEN]
    assert batch.signal is not None
    log_p = batch.signal.logits().log_softmax(-1).gather(-1, column).squeeze(-1)[WRITTEN]
    ids = SEQUENCE_IDS[:NUM][WRITTEN]
    facts = Drawn(log_q.detach(), log_p, sampled.log_probs[WRITTEN], ids)
    found = SEQUENCE_FUNCTIONS[config.sequence_term](config, facts, World())
    (found.slope * log_q).sum().backward()
    return found.value.sum(), [leaf.grad for leaf in leaves]  # type: ignore[misc]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("divergence", ["forward_kl", "entropy_gated"])
@pytest.mark.parametrize("term", TERMS)
def test_it_adds_to_value_and_gradient(term: str, divergence: str, fused: bool) -> None:
    """In closed form, and where the rest goes through autograd."""
    batch = make_batch(NUM)
    sampled = sampled_of(batch)
    config = make_config(divergence, "fixed", student_share=0.5, **TERMS[term])
    without = make_config(divergence, "fixed")
    sums, grads = run(config, batch, sampled, fused=fused)
    plain, plain_grads = run(without, batch, sampled, fused=False)
    value, by_term = by_hand(config, batch, sampled)
    weight = config.sequence_weight or 0.0
    assert sums.sequence is not None and not sums.sequence.requires_grad and plain.sequence is None
    torch.testing.assert_close(sums.sequence, value)
    torch.testing.assert_close(sums.total, plain.total + weight * value)
    for grad, rest, own in zip(grads, plain_grads, by_term, strict=True):
        torch.testing.assert_close(grad, rest + weight * own, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close((sums.hard, sums.soft), (plain.hard, plain.soft))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("term", TERMS)
def test_without_text_of_the_student_it_is_nothing(term: str, fused: bool) -> None:
    batch = make_batch(NUM)
    sums, grads = run(
        make_config("reverse_kl", "cist", student_share=0.5, **TERMS[term]),
        batch,
        None,
        fused=fused,
    )
    plain, expected = run(make_config("reverse_kl", "cist"), batch, None, fused=fused)
    assert sums.sequence == 0 and sums.total == plain.total
    assert all(torch.equal(*pair) for pair in zip(grads, expected, strict=True))


def test_tokens_of_others_are_neither_rewarded_nor_read() -> None:
    """What they were drawn with is not a number here."""
    batch = make_batch(NUM)
    config = make_config("forward_kl", "fixed", student_share=0.5, **TERMS["texts"])
    sums, grads = run(config, batch, sampled_of(batch), fused=True)
    assert sums.total.isfinite() and all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("fused", [False, True])
def test_what_is_not_a_number_shows_in_the_loss(fused: bool) -> None:
    batch = make_batch(NUM)
    sampled = sampled_of(batch)
    sampled.log_probs[0] = torch.nan
    config = make_config("forward_kl", "fixed", student_share=0.5, **TERMS["minillm"])
    sums, _ = run(config, batch, sampled, fused=fused)
    assert sums.total.isnan()
