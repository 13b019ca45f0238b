"""The alpha-beta family near its limits, against its formula in 60 digits."""

import mpmath
import pytest
import torch
from torch import Tensor

from trainers.losses import DIVERGENCE_FUNCTIONS, DistillationLoss, LossContext
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.config import TrialConfig

NEAR = [
    (1e-3, 0.7),
    (1e-6, 0.7),
    (0.7, 1e-6),
    (0.0, 1e-3),
    (1e-3, 0.0),
    (0.1 + 0.2, -0.3),
    (0.3, -0.3 + 1e-7),
    (-1e-4, 0.5),
    (0.09, 0.09),
    (0.2, 0.7),
]


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    student, teacher = torch.randn(2, 2, 40, generator=torch.Generator().manual_seed(0))
    return 2 * student, 2 * teacher


def _in_60_digits(student: Tensor, teacher: Tensor, alpha: float, beta: float) -> list[float]:
    """The formula as written, where it is defined; its limits a step of 1e-25 away."""
    with mpmath.workdps(60):
        a, b = (mpmath.mpf(x) if x else mpmath.mpf("1e-25") for x in (alpha, beta))
        s = a + b
        found = []
        for z, v in zip(student.tolist(), teacher.tolist(), strict=True):
            q, p = ([mpmath.exp(mpmath.mpf(x)) for x in row] for row in (z, v))
            q, p = ([x / sum(row) for x in row] for row in (q, p))
            terms = (x**a * y**b - a / s * x**s - b / s * y**s for x, y in zip(p, q, strict=True))
            found.append(float(-sum(terms) / (a * b)))
    return found


@pytest.mark.parametrize(("alpha", "beta"), NEAR)
def test_no_digits_are_lost_near_a_limit(
    logits: tuple[Tensor, Tensor], alpha: float, beta: float
) -> None:
    expected = torch.tensor(_in_60_digits(*logits, alpha, beta), dtype=torch.float64)
    for dtype, tolerance in ((torch.float32, 3e-5), (torch.float64, 1e-10)):
        student, teacher = (side.to(dtype) for side in logits)
        found = DIVERGENCE_FUNCTIONS["alpha_beta"](
            student_logits=student, teacher_logits=teacher, alpha=alpha, beta=beta
        )
        torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=0.0)


@pytest.mark.parametrize(("alpha", "beta"), NEAR)
def test_the_written_gradient_is_as_exact(
    logits: tuple[Tensor, Tensor], alpha: float, beta: float
) -> None:
    config = TrialConfig(divergence="alpha_beta", alpha=alpha, beta=beta, tau=1.0, hard_weight=0.0)
    found = []
    for dtype, fused in ((torch.float32, True), (torch.float64, False)):
        student, teacher = (side.to(dtype) for side in logits)
        one = torch.eye(40, dtype=dtype)
        student = student.clone().requires_grad_()
        loss = DistillationLoss(config, 40, fused=fused)
        signal = TeacherSignal(teacher, OutputHead(one))
        labels = torch.zeros(2, dtype=torch.int64)
        sums = loss(student, OutputHead(one), labels, signal, LossContext(step=0, num_steps=1))
        sums.total.backward()
        assert student.grad is not None
        found.append((sums.soft.double(), student.grad.double()))
    for mine, exact in zip(*found, strict=True):
        assert (mine - exact).norm() <= 1e-4 * exact.norm()
