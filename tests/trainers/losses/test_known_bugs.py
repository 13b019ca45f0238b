"""Mistakes that published distillation code makes, each shown not to be made here."""

import pytest
import torch
from fused_loss_support import make_batch, make_config, run
from torch import Tensor

from trainers.losses import DIVERGENCE_FUNCTIONS, DistillationLoss, LossContext
from trainers.losses.tables import LABELLED_TERMS
from trainers.losses.weighted import adaptive_kl, alpha_beta
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.config import TrialConfig


def _logits(rows: int = 5, vocab: int = 11) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    student, teacher = 2 * torch.randn(2, rows, vocab, generator=generator, dtype=torch.float64)
    return student, teacher


def _sums(config: TrialConfig, student: Tensor, teacher: Tensor, labels: Tensor, fused: bool):
    """The loss of given logits: hidden states are the logits, the output matrix is the identity."""
    eye = torch.eye(student.shape[1], dtype=student.dtype)
    loss = DistillationLoss(config, student.shape[1], fused=fused)
    signal = TeacherSignal(teacher, OutputHead(eye))
    context = LossContext(sequence_ids=torch.zeros_like(labels))
    return loss(student, OutputHead(eye), labels, signal, context)


@pytest.mark.parametrize("parameter", [0.2, 0.5, 2.0])
def test_alpha_beta_limits_divide_by_the_square(parameter: float) -> None:
    student, teacher = _logits()
    given = {"student_logits": student, "teacher_logits": teacher}
    q, p = student.softmax(-1), teacher.softmax(-1)
    a, b = p**parameter, q**parameter
    limit = (a * (a / b).log() - a + b).sum(-1)
    found = alpha_beta(**given, alpha=parameter, beta=0.0)
    torch.testing.assert_close(found, limit / parameter**2)
    assert not torch.allclose(found, limit / parameter)


def test_true_kl_keeps_the_teachers_entropy() -> None:
    student, teacher = _logits()
    p, log_q = teacher.softmax(-1), student.log_softmax(-1)
    found = DIVERGENCE_FUNCTIONS["forward_kl"](student_logits=student, teacher_logits=teacher)
    entropy = -(p * p.log()).sum(-1)
    torch.testing.assert_close(found, -(p * log_q).sum(-1) - entropy)


def test_adaptive_pairs_each_entry_with_its_own_gap() -> None:
    # The teacher's head is the last entry; in vocabulary order the first would be taken.
    teacher = torch.tensor([[0.1, 0.2, 0.7]], dtype=torch.float64).log()
    student = torch.tensor([[0.3, 0.2, 0.5]], dtype=torch.float64).log()
    p, q = teacher.exp(), student.exp()
    forward, reverse = (p * (p / q).log()).sum(), (q * (q / p).log()).sum()
    found = adaptive_kl(student_logits=student, teacher_logits=teacher, head_mass=0.6)
    torch.testing.assert_close(found.squeeze(), 0.5 * forward + 0.5 * reverse)
    # 0.75 is reached by the last and the second: the entry that crosses the mass belongs to it.
    wider = adaptive_kl(student_logits=student, teacher_logits=teacher, head_mass=0.75)
    torch.testing.assert_close(wider, found)
    all_but_first = adaptive_kl(student_logits=student, teacher_logits=teacher, head_mass=0.95)
    torch.testing.assert_close(all_but_first.squeeze(), forward)


def test_beta_is_not_mirrored() -> None:
    student, teacher = _logits()
    given = {"student_logits": student, "teacher_logits": teacher}
    q, p = student.softmax(-1), teacher.softmax(-1)
    mixture = 0.1 * p + 0.9 * q
    forward, reverse = (p * (p / mixture).log()).sum(-1), (q * (q / mixture).log()).sum(-1)
    found = DIVERGENCE_FUNCTIONS["generalized_jsd"](**given, beta=0.1)
    torch.testing.assert_close(found, 0.1 * forward + 0.9 * reverse)
    mirrored = DIVERGENCE_FUNCTIONS["generalized_jsd"](**given, beta=0.9)
    assert not torch.allclose(found, mirrored)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", sorted(set(DIVERGENCE_FUNCTIONS) - {"centred_mse"}))
def test_temperature_reaches_the_loss(name: str, fused: bool) -> None:
    student, teacher = _logits()
    labels = torch.zeros(5).long()
    found = [
        _sums(
            TrialConfig(divergence=name, tau=tau, scaling="none"), student, teacher, labels, fused
        )
        for tau in (0.5, 1.0, 2.0, 4.0)
    ]
    for tau, sums in zip((0.5, 1.0, 2.0, 4.0), found, strict=True):
        direct = DIVERGENCE_FUNCTIONS[name](
            student_logits=student / tau, teacher_logits=teacher / tau
        )
        torch.testing.assert_close(sums.soft, direct.sum())
    assert len({round(float(sums.soft), 9) for sums in found}) == 4


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", sorted(LABELLED_TERMS))
def test_temperature_reaches_a_labelled_term(name: str, fused: bool) -> None:
    configs = [make_config(name, "fixed", tau=tau, scaling="none") for tau in (0.5, 1.0, 2.0, 4.0)]
    found = [run(config, make_batch(), fused=fused)[0] for config in configs]
    assert len({round(float(sums.soft), 9) for sums in found}) == 4
    assert len({float(sums.hard) for sums in found}) == 1


def test_temperature_is_divided_once_and_not_in_place() -> None:
    student, teacher = _logits()
    kept = student.clone(), teacher.clone()
    for fused in (False, True):
        config = TrialConfig(tau=2.0, policy="fixed")
        _sums(config, student.requires_grad_(), teacher, torch.zeros(5).long(), fused)
        assert torch.equal(student, kept[0]) and torch.equal(teacher, kept[1])


@pytest.mark.parametrize("name", sorted({*DIVERGENCE_FUNCTIONS, *LABELLED_TERMS}))
@pytest.mark.parametrize("fused", [False, True])
def test_positions_left_out_have_no_influence(name: str, fused: bool) -> None:
    """Masked positions are cut before the loss: whatever stands there, the rest is the same."""
    config = TrialConfig(divergence=name)
    labels = torch.tensor([1, -100, 3, -100, 5])
    found = []
    for noise in (0.0, 50.0):
        student, teacher = _logits()
        student = (student + noise * (labels < 0).unsqueeze(1)).requires_grad_()
        teacher = teacher - noise * (labels < 0).unsqueeze(1).double()
        valid = labels >= 0
        sums = _sums(config, student[valid], teacher[valid], labels[valid], fused)
        sums.total.backward()
        assert student.grad is not None and (student.grad[~valid] == 0).all()
        found.append((sums.total.detach(), student.grad))
    torch.testing.assert_close(found[0], found[1])


def test_a_smaller_vocabulary_gets_no_probability_for_entries_it_lacks() -> None:
    student, teacher = _logits()
    with pytest.raises(ValueError, match=r"vocabulary's 9 entries, but got 9 and 11"):
        DistillationLoss(TrialConfig(), 9, fused=True)(
            student[:, :9],
            OutputHead(torch.eye(9, dtype=torch.float64)),
            torch.zeros(5).long(),
            TeacherSignal(teacher, OutputHead(torch.eye(11, dtype=torch.float64))),
            LossContext(),
        )


def test_softmax_is_never_taken_in_bfloat16() -> None:
    student, teacher = _logits(vocab=4000)
    low = {"student_logits": student.bfloat16(), "teacher_logits": teacher.bfloat16()}
    same = {key: value.float() for key, value in low.items()}
    for name, row in DIVERGENCE_FUNCTIONS.items():
        assert torch.equal(row(**low), row(**same)), name


def test_names_are_matched_whole() -> None:
    # `akd` inside `adaptive_akd`, `skd` inside `adaptive-focuskd`: substrings have chosen losses.
    for name in ("adaptive", "kl", "FORWARD_KL", "forward_kl ", "skew_forward_kl2"):
        with pytest.raises(ValueError, match=r"divergence must be one of"):
            TrialConfig(divergence=name)


def test_a_misspelt_parameter_is_refused_not_ignored() -> None:
    for field in ("head_mas", "kd_temperature", "hrl_topk"):
        with pytest.raises(ValueError, match=rf"{field}\b"):
            TrialConfig.model_validate({"divergence": "adaptive_kl", field: 0.3})


def test_reverse_kl_has_the_sign_of_a_divergence() -> None:
    student, teacher = _logits()
    leaf = student.clone().requires_grad_()
    value = DIVERGENCE_FUNCTIONS["reverse_kl"](student_logits=leaf, teacher_logits=teacher).sum()
    value.backward()
    assert leaf.grad is not None
    closer = DIVERGENCE_FUNCTIONS["reverse_kl"](
        student_logits=student - 0.1 * leaf.grad, teacher_logits=teacher
    ).sum()
    assert 0 < closer < value


def test_adaptive_temperatures_have_no_gradient() -> None:
    student, teacher = _logits()
    leaf = student.clone().requires_grad_()
    config = TrialConfig(policy="token_adaptive", scaling="none", hard_weight=0.0)
    _sums(config, leaf, teacher, torch.zeros(5).long(), fused=False).total.backward()
    softened = DistillationLoss(config, 11).softened(student, teacher)
    by_hand = (softened.student.softmax(-1) - softened.teacher.softmax(-1)) / softened.tau_s[
        :, None
    ]
    torch.testing.assert_close(leaf.grad, 0.9 * by_hand)


def test_the_largest_logit_is_centred_before_it_becomes_a_temperature() -> None:
    # All logits below zero: without centring the temperatures would be negative.
    student, teacher = _logits()
    for policy in ("cist", "dynamic"):
        config = TrialConfig(policy=policy)
        softened = DistillationLoss(config, 11).softened(student - 100, teacher - 100)
        assert (softened.tau_s > 0).all() and (softened.tau_t > 0).all()
        again = DistillationLoss(config, 11).softened(student, teacher)
        torch.testing.assert_close(softened.tau_s, again.tau_s)


def test_the_sum_is_over_positions_and_divided_by_none_here() -> None:
    student, teacher = _logits()
    labels = torch.zeros(5).long()
    once = _sums(TrialConfig(), student, teacher, labels, fused=True)
    twice = _sums(
        TrialConfig(), student.repeat(2, 1), teacher.repeat(2, 1), labels.repeat(2), fused=True
    )
    torch.testing.assert_close(twice.total, 2 * once.total)
