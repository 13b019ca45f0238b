"""How far the soft loss is off, against gradients by autograd."""

import math

import pytest
import torch
from torch import Tensor

from trainers.losses.divergences import forward_kl, reverse_kl
from trainers.teachers import bias

V = 40


def drawn(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(16, V, generator=generator)


def test_what_is_stored_exactly_is_off_by_nothing() -> None:
    rows = bias.measure([(drawn(0), drawn(0) + 3.0)], drawn(2)[0])
    assert len(rows) == len(bias.SETTINGS)
    assert all(abs(float(row[name])) < 1e-5 for row in rows for name in ("kl", "jsd"))  # type: ignore[arg-type]
    assert all(row["forward"] < 1e-3 and row["reverse"] < 1e-3 for row in rows)  # type: ignore[operator]


def softened(logits: Tensor, policy: str, at: float) -> Tensor:
    """By the definitions of `fixed` and `cist`."""
    if policy == "fixed":
        return logits / at
    centred = logits - logits.mean(-1, keepdim=True)
    tau = centred.max(-1, keepdim=True).values / (at * math.log(V))
    return centred / tau


@pytest.mark.parametrize("number", range(len(bias.SETTINGS)))
def test_errors_are_those_of_the_losses_gradients(number: int) -> None:
    exact, stored, shape = drawn(0), drawn(0) + 0.3 * drawn(1), drawn(2)[0]
    # in two parts, as a sample comes
    parts = [(exact[:5], stored[:5]), (exact[5:], stored[5:])]
    row = bias.measure(parts, shape)[number]
    policy, at = bias.SETTINGS[number]
    middle = (exact - exact.mean(-1, keepdim=True) + shape) / 2
    student = softened(middle, policy, at).detach().requires_grad_()
    teachers = [softened(each, policy, at) for each in (exact, stored)]
    for name, divergence in (("forward", forward_kl), ("reverse", reverse_kl)):
        right, wrong = (
            torch.autograd.grad(
                divergence(student_logits=student, teacher_logits=teacher).sum(), student
            )[0]
            for teacher in teachers
        )
        assert row[name] == pytest.approx(float((right - wrong).norm() / right.norm()), rel=1e-3)
    kl = forward_kl(student_logits=teachers[1], teacher_logits=teachers[0]).mean()
    assert row["kl"] == pytest.approx(float(kl), rel=1e-3)
    assert 0 < float(row["jsd"]) < float(row["kl"])  # type: ignore[arg-type]
