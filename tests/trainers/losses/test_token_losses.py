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


# Beyond alpha 1 their code stays at the geometric mean; these are of the formula.
MIXTURE: dict[str, tuple[float, str]] = {
    "kl teacher_mixture 0.5 0.5": (
        0.0545833251,
        "-0.0489420472 -0.020493418 0.0476926624 0.0157372965 0.0060055063",
    ),
    "kl student_mixture 0.5 0.5": (
        0.0445909856,
        "-0.0347969186 -0.009914775 0.0209553413 0.0188824993 0.004873853",
    ),
    "kl mixture_teacher 0.5 0.5": (
        0.0521099367,
        "-0.0461323743 -0.0169572765 0.0391853734 0.0179998248 0.0059044526",
    ),
    "kl mixture_student 0.5 0.5": (
        0.0500499989,
        "-0.0431462511 -0.0147741878 0.033632373 0.0186233557 0.0056647103",
    ),
    "alpha_beta teacher_mixture 0.5 0.5": (
        0.0625234395,
        "-0.0528616976 -0.0225085473 0.0436116341 0.0231731811 0.0085854297",
    ),
    "kl teacher_mixture -1 0.1": (
        0.1672433021,
        "-0.1461329487 -0.0539035072 0.1289382741 0.0528131348 0.018285047",
    ),
    "kl teacher_mixture 1 0.5": (
        0.0582422025,
        "-0.0537854572 -0.024946075 0.0569201365 0.0153413045 0.0064700913",
    ),
    "kl teacher_mixture -5 0.1": (
        0.1248392055,
        "-0.0855658343 -0.014714096 0.0475080251 0.0411469053 0.0116249999",
    ),
    "kl teacher_mixture 3 0.5": (
        0.073642471,
        "-0.0737597128 -0.0433716214 0.0934557542 0.0152614312 0.0084141488",
    ),
}


def mixed(setting: str) -> list[tuple[float, list[float]]]:
    """Both forms of the alpha-mixture with divergence, order, alpha and weight."""
    divergence, order, alpha, weight = setting.split()
    fields = {"mixture_divergence": divergence, "mixture_order": order}
    numbers = {"alpha": float(alpha), "mixture_weight": float(weight)}
    return both_forms(STUDENT, TEACHER, 0, divergence="alpha_mixture", **fields, **numbers)


@pytest.mark.parametrize("setting", MIXTURE)
def test_alpha_mixture(setting: str) -> None:
    hold(mixed(setting), *MIXTURE[setting])


def test_the_arithmetic_mixture_is_the_skew_kl() -> None:
    skew = both_forms(STUDENT, TEACHER, 0, divergence="skew_forward_kl", alpha=0.1)
    for (value, slope), (other, others) in zip(
        mixed("kl teacher_mixture -1 0.1"), skew, strict=True
    ):
        assert value == pytest.approx(other, rel=1e-12)
        assert slope == pytest.approx(others, abs=1e-12)


@pytest.mark.parametrize("step", [1e-2, 1e-4, 1e-6, 1e-8])
def test_alpha_mixture_has_all_its_digits_near_the_geometric_mean(step: float) -> None:
    """Where its power is nearly 0, in float32: it tends to the mean, as fast as the power."""
    (limit, at_limit), _ = mixed("kl teacher_mixture 1 0.5")
    for alpha in (1 - step, 1 + step):
        wide = mixed(f"kl teacher_mixture {alpha} 0.5")
        assert abs(wide[0][0] - limit) < step
        narrow = both_forms(
            STUDENT.float(), TEACHER.float(), 0, divergence="alpha_mixture", alpha=alpha
        )
        for value, slope in narrow:
            assert value == pytest.approx(wide[0][0], rel=2e-6)
            assert slope == pytest.approx(wide[0][1], abs=1e-6)


# H(p) of TEACHER is 1.2381824325 nats.
@pytest.mark.parametrize(("threshold", "is_added"), [(0.8, True), (1.2381, True), (1.2382, False)])
@pytest.mark.parametrize("weight", [1.0, 0.25, 0.0])
def test_entropy_aware_adds_forward_kl_where_the_teacher_is_unsure(
    threshold: float, is_added: bool, weight: float
) -> None:
    reverse = [-0.1509542821, -0.0465613165, 0.0995065015, 0.0772486614, 0.0207604357]
    forward = [-0.1967016452, -0.0813116475, 0.1863963084, 0.067138132, 0.0244788524]
    share = 0.5 if is_added else 0.0
    forms = both_forms(
        STUDENT,
        TEACHER,
        0,
        divergence="entropy_aware",
        reverse_weight=weight,
        forward_weight=0.5,
        entropy_threshold=threshold,
    )
    for value, slope in forms:
        assert value == pytest.approx(weight * 0.1861290173 + share * 0.2184764294, abs=1e-9)
        expected = [weight * r + share * f for r, f in zip(reverse, forward, strict=True)]
        assert slope == pytest.approx(expected, abs=1e-9)
