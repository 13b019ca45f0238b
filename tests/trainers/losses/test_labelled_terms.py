"""Labelled terms: their formulas, their labels, and what they hold constant."""

import pytest
import torch
from torch import Tensor

from trainers.losses import LABELLED_TERMS, LossContext
from trainers.losses.passes import BatchSettings, sequence_weights, settings_from
from trainers.losses.soft_term import SoftTerm
from trainers.trial.catalogue import DIVERGENCES
from trainers.trial.config import TrialConfig

ROWS, VOCAB = 4, 9
LABELS = torch.tensor([0, 3, 8, 3])


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    student, teacher = 2 * torch.randn(2, ROWS, VOCAB, generator=generator, dtype=torch.float64)
    return student, teacher


def _values(
    config: TrialConfig,
    logits: tuple[Tensor, Tensor],
    settings: BatchSettings | None = None,
    labels: Tensor = LABELS,
) -> Tensor:
    return SoftTerm(config, VOCAB).values(*logits, labels, settings or BatchSettings())


def _settings(name: str) -> BatchSettings:
    if name == "token_scaled":
        return BatchSettings(row_weight=torch.linspace(0.5, 1.5, ROWS, dtype=torch.float64))
    return BatchSettings(mix=torch.tensor(0.6)) if name == "interpolated" else BatchSettings()


def _without(probabilities: Tensor, labels: Tensor) -> Tensor:
    kept = torch.ones_like(probabilities).scatter(1, labels[:, None], 0).bool()
    others = probabilities[kept].view(ROWS, VOCAB - 1)
    return others / others.sum(-1, keepdim=True)


def _kl(a: Tensor, b: Tensor) -> Tensor:
    return (a * (a / b).log()).sum(-1)


@pytest.mark.parametrize("tau", [1.0, 2.5])
def test_decoupled_is_the_binary_kl_and_the_kl_of_the_others(
    logits: tuple[Tensor, Tensor], tau: float
) -> None:
    q, p = ((side / tau).softmax(-1) for side in logits)
    q_y, p_y = (side.gather(1, LABELS[:, None]) for side in (q, p))
    binary = _kl(torch.cat((p_y, 1 - p_y), 1), torch.cat((q_y, 1 - q_y), 1))
    others = _kl(_without(p, LABELS), _without(q, LABELS))
    config = TrialConfig(
        divergence="decoupled", tau=tau, target_weight=0.7, non_target_weight=3.0, scaling="none"
    )
    torch.testing.assert_close(_values(config, logits), 0.7 * binary + 3.0 * others)
    # The identity the name comes from: forward KL weighs the others by 1 - p_y.
    forward = _values(TrialConfig(tau=tau, scaling="none"), logits)
    torch.testing.assert_close(binary + (1 - p_y[:, 0]) * others, forward)


def test_normalised_scales_only_the_others(logits: tuple[Tensor, Tensor]) -> None:
    tau = 2.0
    q, p = (side.softmax(-1) for side in logits)
    target = -(p * q.log()).gather(1, LABELS[:, None])[:, 0]
    soft_q, soft_p = ((side / tau).softmax(-1) for side in logits)
    others = -(_without(soft_p, LABELS) * _without(soft_q, LABELS).log()).sum(-1)
    config = TrialConfig(divergence="normalised", tau=tau, gamma=1.2)
    torch.testing.assert_close(_values(config, logits), target + 1.2 * tau**2 * others)


def test_token_scaled_is_forward_kl_times_the_rows_weights(logits: tuple[Tensor, Tensor]) -> None:
    settings = _settings("token_scaled")
    forward = _values(TrialConfig(tau=2.0), logits)
    found = _values(TrialConfig(divergence="token_scaled", tau=2.0), logits, settings)
    torch.testing.assert_close(found, settings.row_weight * forward)


def test_weights_over_a_sequence_are_a_softmax_with_mean_1() -> None:
    entropies = torch.tensor([1.0, 3.0, 0.5, 2.0, 2.0], dtype=torch.float64)
    ids = torch.tensor([7, 7, 2, 7, 2])
    weights = sequence_weights(entropies, ids, temperature=0.5)
    for sequence in (7, 2):
        inside = ids == sequence
        expected = inside.sum() * (entropies[inside] / 0.5).softmax(0)
        torch.testing.assert_close(weights[inside], expected)
    assert sequence_weights(entropies[:0], ids[:0], 1.0).shape == (0,)


def test_token_scaled_without_sequences_is_refused() -> None:
    config = TrialConfig(divergence="token_scaled")
    with pytest.raises(ValueError, match=r"context.sequence_ids must be given .* but got None"):
        settings_from(config, [torch.ones(3)], LossContext())


@pytest.mark.parametrize("mix", [0.0, 0.4, 1.0])
def test_interpolated_is_forward_kl_to_mixed_logits(
    logits: tuple[Tensor, Tensor], mix: float
) -> None:
    config = TrialConfig(divergence="interpolated", tau=2.0, scaling="none")
    target = (((1 - mix) * logits[0] + mix * logits[1]) / 2.0).softmax(-1)
    leaf = logits[0].clone().requires_grad_()
    value = _values(config, (leaf, logits[1]), BatchSettings(mix=torch.tensor(mix)))
    torch.testing.assert_close(value.detach(), _kl(target, (logits[0] / 2.0).softmax(-1)))
    value.sum().backward()
    torch.testing.assert_close(leaf.grad, ((logits[0] / 2.0).softmax(-1) - target) / 2.0)


@pytest.mark.parametrize("name", ["decoupled", "diverse_reverse_kl", "normalised", "token_scaled"])
@pytest.mark.parametrize("policy", ["fixed", "fixed_teacher", "cist", "logit_standardization"])
def test_gradient_is_the_values(logits: tuple[Tensor, Tensor], name: str, policy: str) -> None:
    # The weight is held constant; at these policies' `none` it is 1.
    config = TrialConfig(divergence=name, policy=policy, scaling="none")
    assert torch.autograd.gradcheck(
        lambda student: _values(config, (student, logits[1]), _settings(name)),
        logits[0].clone().requires_grad_(),
    )


@pytest.mark.parametrize("name", sorted(LABELLED_TERMS))
def test_extremes_shifts_and_the_teacher(logits: tuple[Tensor, Tensor], name: str) -> None:
    config = TrialConfig(divergence=name)
    student = (80 * logits[0].sign()).bfloat16().requires_grad_()
    teacher = (80 * logits[1].sign()).bfloat16().requires_grad_()
    value = _values(config, (student, teacher), _settings(name))
    value.sum().backward()
    assert value.isfinite().all() and student.grad.isfinite().all()  # type: ignore[union-attr]
    assert teacher.grad is None
    shifted = _values(config, (logits[0] + 5.0, logits[1] - 3.0), _settings(name))
    torch.testing.assert_close(shifted, _values(config, logits, _settings(name)))


@pytest.mark.parametrize("name", sorted(LABELLED_TERMS))
def test_keeps_what_its_traits_declare(logits: tuple[Tensor, Tensor], name: str) -> None:
    gate = {"entropy_max": 0.3} if name == "entropy_gated" else {}
    config, traits = TrialConfig(divergence=name, **gate), DIVERGENCES[name]
    values = _values(config, logits, _settings(name))
    assert bool((values >= 0).all()) == traits.nonnegative
    leaf = logits[1].clone().requires_grad_()
    equal = _values(config, (leaf, logits[1]), _settings(name))
    equal.sum().backward()
    assert leaf.grad is not None
    largest = max(equal.abs().max().item(), leaf.grad.abs().max().item())
    assert (largest < 1e-12) == traits.zero_at_equality
    order = torch.randperm(VOCAB, generator=torch.Generator().manual_seed(1))
    mixed = logits[0][:, order], logits[1][:, order]
    again = _values(config, mixed, _settings(name), labels=order.argsort()[LABELS])
    torch.testing.assert_close(again, values)


@pytest.mark.parametrize("name", ["decoupled", "diverse_reverse_kl", "normalised"])
def test_labels_matter(logits: tuple[Tensor, Tensor], name: str) -> None:
    config = TrialConfig(divergence=name)
    moved = _values(config, logits, labels=(LABELS + 1) % VOCAB)
    assert not torch.isclose(moved, _values(config, logits)).any()


def test_a_label_as_good_as_certain_keeps_the_others_exact() -> None:
    teacher = torch.tensor([[60.0, 1.0, 0.0, -1.0]], dtype=torch.float64)
    student = torch.tensor([[55.0, 0.0, 0.5, 1.0]], dtype=torch.float64)
    config = TrialConfig(divergence="decoupled", target_weight=0.0, non_target_weight=1.0)
    found = [
        SoftTerm(config, 4).values(z, v, torch.tensor([0]), BatchSettings()).item()
        for z, v in ((student, teacher), (student.float(), teacher.float()))
    ]
    expected = _kl(teacher[:, 1:].softmax(-1), student[:, 1:].softmax(-1)).item()
    assert found == pytest.approx([expected, expected], rel=1e-6)
    config = TrialConfig(divergence="decoupled", target_weight=1.0, non_target_weight=0.0)
    # log(1 - p_y) is about -59: 1 - p_y itself is not a number that float32 has.
    rest = [(z[:, 1:].logsumexp(-1) - z.logsumexp(-1)).item() for z in (student, teacher)]
    value = SoftTerm(config, 4).values(
        student.float(), teacher.float(), torch.tensor([0]), BatchSettings()
    )
    expected = torch.tensor(rest[1]).exp() * (rest[1] - rest[0])
    assert value.item() == pytest.approx(float(expected), abs=1e-7)
