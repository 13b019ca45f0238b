"""Losses of the language-model literature against numbers of a NumPy program in float64 whose
gradients were checked by autograd: value and gradient, plain and as written out."""

from typing import Any

import pytest
import torch
from torch import Tensor

from trainers.losses.fused.closed_form import CLOSED_FORMS
from trainers.losses.fused.closed_parts import DivergenceInput
from trainers.losses.passes import BatchSettings
from trainers.losses.soft_term import SoftTerm
from trainers.trial.config import TrialConfig

STUDENT = torch.tensor([[0.5, -1.0, 2.0, 0.3, -0.4]], dtype=torch.float64)
TEACHER = torch.tensor([[1.2, 0.1, 1.5, -0.7, -1.1]], dtype=torch.float64)


def both_forms(
    student: Tensor, teacher: Tensor, label: int, **config: Any
) -> list[tuple[float, list[float]]]:
    """Value and gradient by the softened logits of one row, by autograd and in closed form."""
    term = SoftTerm(TrialConfig(**{"scaling": "none", **config}), student.shape[-1])
    labels = torch.tensor([label])
    softened = term.softened(student, teacher, BatchSettings())
    leaf = student.clone().requires_grad_()
    value = term.values(leaf, teacher, labels, BatchSettings())
    value.sum().backward()
    assert leaf.grad is not None
    given = DivergenceInput(
        softened.student, softened.teacher.clone(), labels.unsqueeze(-1), term.parameters
    )
    coefficient = softened.weight / softened.tau_s
    found, slope = CLOSED_FORMS[term.config.divergence](given, coefficient.unsqueeze(-1))
    return [(value.item(), leaf.grad[0].tolist()), (found.item(), slope[0].tolist())]


def hold(forms: list[tuple[float, list[float]]], value: float, slope: str) -> None:
    """Holds each form to the value and the gradient's entries."""
    for found, by_logits in forms:
        assert found == pytest.approx(value, abs=1e-9)
        assert by_logits == pytest.approx([float(entry) for entry in slope.split()], abs=1e-9)


DIVERSE = {
    (0, 1.0): (0.1500818466, "-0.138441138 -0.025316273 0.09610922 0.0520733482 0.0155748428"),
    (2, 1.0): (0.234270467, "-0.2273819189 -0.0689621464 0.1744864863 0.098066949 0.0237906301"),
    (0, 2.0): (0.0504503422, "-0.0412495447 -0.0175407752 0.0238604016 0.0238852803 0.0110446379"),
}


@pytest.mark.parametrize(("label", "tau"), DIVERSE)
def test_diverse_reverse_kl(label: int, tau: float) -> None:
    forms = both_forms(STUDENT, TEACHER, label, divergence="diverse_reverse_kl", tau=tau, gamma=0.5)
    hold(forms, *DIVERSE[label, tau])


def test_diverse_reverse_kl_at_the_students_own_share_is_reverse_kl() -> None:
    share = 1 - float(STUDENT.softmax(-1)[0, 2])
    for value, _ in both_forms(STUDENT, TEACHER, 2, divergence="diverse_reverse_kl", gamma=share):
        assert value == pytest.approx(0.1861290173, abs=1e-9)


@pytest.mark.parametrize("sure", [STUDENT, TEACHER], ids=["student", "teacher"])
def test_diverse_reverse_kl_keeps_the_others_where_a_side_is_sure(sure: Tensor) -> None:
    """1 less such a probability is 0 in float32: nothing may be divided by it."""
    shifted = torch.tensor([[0.0, 0.0, 60.0, 0.0, 0.0]], dtype=torch.float64)
    student, teacher = (s + shifted if s is sure else s for s in (STUDENT, TEACHER))
    wide = both_forms(student, teacher, 2, divergence="diverse_reverse_kl")
    narrow = both_forms(student.float(), teacher.float(), 2, divergence="diverse_reverse_kl")
    kept = [0, 1, 3, 4]
    q, p = (side[0, kept].softmax(-1) for side in (student, teacher))
    log_odds = [(s[0, 2] - s[0, kept].logsumexp(-1)).item() for s in (student, teacher)]
    binary = [torch.tensor([x, -x], dtype=torch.float64) for x in log_odds]
    logs = [torch.nn.functional.logsigmoid(x) for x in binary]
    expected = (logs[0].exp() * (logs[0] - logs[1])).sum() + 0.5 * (q * (q / p).log()).sum()
    for value, slope in (*wide, *narrow):
        assert value == pytest.approx(expected.item(), rel=1e-5)
        assert slope == pytest.approx(wide[0][1], abs=1e-5 * max(1.0, abs(expected.item())))
