"""Terms that differ with who wrote the text: numbers of a NumPy program in float64 whose gradients
were checked by autograd, and their halves by divergences that have none of that."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from fused_loss_support import make_batch, shrink_chunks
from torch import Tensor

from trainers.losses import DistillationLoss, LossContext
from trainers.losses.passes import adaptive_skew
from trainers.sampled import Author, Sampled
from trainers.trial.config import TrialConfig

STUDENT = torch.tensor([[0.5, -1.0, 2.0, 0.3, -0.4]], dtype=torch.float64)
TEACHER = torch.tensor([[1.2, 0.1, 1.5, -0.7, -1.1]], dtype=torch.float64)
SKEW_FORWARD = (
    0.1672433021,
    [-0.1461329487, -0.0539035072, 0.1289382741, 0.0528131348, 0.018285047],
)
SKEW_REVERSE = (
    0.1527574347,
    [-0.1375654706, -0.0430936336, 0.0954164987, 0.0665813683, 0.0186612371],
)
JSD = 0.0489041468


def run(
    config: TrialConfig, sides: tuple[Tensor, Tensor], authors: list[Author], *, fused: bool
) -> tuple[Tensor, Tensor]:
    """The soft loss and its gradient by the student's logits, a text a row."""
    num, width = sides[0].shape
    hidden = sides[0].clone().requires_grad_()
    eye = torch.eye(width, dtype=torch.float64)
    batch = make_batch(num, width)
    assert batch.signal is not None
    head = replace(batch.head, weight=eye, bias=None)
    signal = replace(batch.signal, hidden=sides[1], head=head)
    sampled = Sampled(
        torch.tensor([int(author) for author in authors]),
        torch.ones(num, dtype=torch.bool),
        torch.zeros(num),
    )
    context = LossContext(sequence_ids=torch.arange(num), sampled=sampled)
    loss = DistillationLoss(config, width, fused=fused).double()
    sums = loss(hidden, head, batch.labels, signal, context)
    sums.total.backward()
    assert hidden.grad is not None
    return sums.soft, hidden.grad


def made(divergence: str, **fields: Any) -> TrialConfig:
    return TrialConfig(divergence=divergence, hard_weight=0.0, soft_weight=1.0, **fields)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    ("author", "expected"),
    [
        (Author.STUDENT, SKEW_REVERSE),
        (Author.MIXTURE, SKEW_REVERSE),
        (Author.DATA, SKEW_FORWARD),
        (Author.TEACHER, SKEW_FORWARD),
    ],
)
def test_contrastive_skew_kl(
    author: Author, expected: tuple[float, list[float]], fused: bool
) -> None:
    found, slope = run(made("contrastive_skew_kl"), (STUDENT, TEACHER), [author], fused=fused)
    assert found.item() == pytest.approx(expected[0], abs=1e-9)
    assert slope[0].tolist() == pytest.approx(expected[1], abs=1e-9)


@pytest.mark.parametrize("fused", [False, True])
def test_the_halves_of_the_jsd_add_to_it(fused: bool) -> None:
    config, sides = made("stepwise_jsd"), (STUDENT, TEACHER)
    own, others = (
        run(config, sides, [author], fused=fused) for author in (Author.STUDENT, Author.DATA)
    )
    whole, slope = run(made("generalized_jsd"), sides, [Author.DATA], fused=fused)
    assert own[0].item() + others[0].item() == pytest.approx(JSD, abs=1e-9)
    torch.testing.assert_close(own[1] + others[1], slope)
    torch.testing.assert_close(own[0] + others[0], whole)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("policy", ["fixed", "cist"])
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("contrastive_skew_kl", {"alpha": 0.3}),
        ("contrastive_skew_kl", {"alpha": 0.4, "skew_anchor": 0.05}),
        ("contrastive_skew_kl", {"alpha": 0.0}),
        ("stepwise_jsd", {"beta": 0.2}),
    ],
)
def test_each_row_goes_by_its_own_writer(
    name: str, parameters: dict[str, Any], policy: str, fused: bool, monkeypatch: Any
) -> None:
    shrink_chunks(monkeypatch)
    sides = torch.randn(2, 20, 53, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    config = TrialConfig(
        divergence=name,
        policy=policy,
        hard_weight=0.0,
        soft_weight=1.0,
        allow_free_logit_scale=True,
        **parameters,
    )
    mixed = [Author.STUDENT if i % 3 == 0 else Author.DATA for i in range(20)]
    _, found = run(config, (sides[0], sides[1]), mixed, fused=fused)
    for author in (Author.STUDENT, Author.DATA):
        _, alone = run(config, (sides[0], sides[1]), [author] * 20, fused=False)
        rows = torch.tensor([one == author for one in mixed])
        torch.testing.assert_close(found[rows], alone[rows], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("fused", [False, True])
def test_reverse_cross_entropy_is_reverse_kl_and_the_students_entropy(fused: bool) -> None:
    leaf = STUDENT.clone().requires_grad_()
    log_q, log_p = leaf.log_softmax(-1), TEACHER.log_softmax(-1)
    expected = -(log_q.exp() * log_p).sum()
    expected.backward()
    found, slope = run(
        made("reverse_cross_entropy"), (STUDENT, TEACHER), [Author.STUDENT], fused=fused
    )
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(slope, leaf.grad)


def adapted(alpha: float, anchor: float, log_q: list[float], log_p: list[float]) -> list[float]:
    config = made("contrastive_skew_kl", alpha=alpha, skew_anchor=anchor)
    ids = torch.tensor([4] * (len(log_q) - 1) + [2])
    values = torch.tensor([log_q, log_p], dtype=torch.float64).T
    return adaptive_skew(config, values, LossContext(sequence_ids=ids)).tolist()


def test_the_skew_adapts_to_each_text() -> None:
    """The first of two texts has mean log-probabilities -1.3 and -0.8, the second -2 for both."""
    log_q, log_p = [-1.1, -1.5, -2.0], [-0.7, -0.9, -2.0]
    assert adapted(0.1, 0.2, log_q, log_p) == [0.01, 0.01, 0.01]
    raw = 1 - 0.9 * 0.18 / (math.exp(-0.8) - math.exp(-1.3) + 1e-5)
    assert adapted(0.1, 0.18, log_q, log_p) == pytest.approx([raw, raw, 0.01])
    assert 1 - 0.9 * 0.2 / (math.exp(-0.8) - math.exp(-1.3) + 1e-5) == pytest.approx(-0.0180582546)
    # a teacher that is surer than the student by far leaves alpha as it is
    assert adapted(0.1, 1e-4, [-9.0, -9.0], [-0.1, -0.2]) == [0.1, 0.1]
