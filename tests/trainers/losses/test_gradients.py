"""What gradients are made of, against small examples worked out by hand and closed forms of both
KLs."""

import math
from typing import Any

import pytest
import torch

from trainers.losses.divergences import forward_kl, reverse_kl
from trainers.losses.gradients import (
    VANISHING,
    GradientRows,
    Rung,
    entropy,
    hard_gradient,
    kl_gradients,
    ladder,
    log_softened,
    matched_deviation,
    top_columns,
)

# One position, with the gradients of both KLs (not scaled) worked out in float64 elsewhere.
STUDENT = torch.tensor([[0.5, -1.0, 2.0, 0.3, -0.4]], dtype=torch.float64)
TEACHER = torch.tensor([[1.2, 0.1, 1.5, -0.7, -1.1]], dtype=torch.float64)
KNOWN = {
    (1.0, "forward_kl"): [-0.1967016452, -0.0813116475, 0.1863963084, 0.067138132, 0.0244788524],
    (1.0, "reverse_kl"): [-0.1509542821, -0.0465613165, 0.0995065015, 0.0772486614, 0.0207604357],
    (2.0, "forward_kl"): [-0.0478264608, -0.0377831283, 0.0374964228, 0.0319822421, 0.0161309243],
    (2.0, "reverse_kl"): [-0.045398036, -0.0306491514, 0.0276493289, 0.03385756, 0.0145402984],
}


@pytest.mark.parametrize(("tau", "name"), KNOWN)
def test_the_gradients_of_both_kls(tau: float, name: str) -> None:
    found = kl_gradients(STUDENT, TEACHER, tau)[name] / tau**2
    torch.testing.assert_close(found[0], torch.tensor(KNOWN[tau, name]).double(), rtol=1e-7, atol=0)


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("function", [forward_kl, reverse_kl])
def test_they_are_autograds_of_tau_squared_times_the_kl(tau: float, function: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = 3 * torch.randn(2, 4, 9, generator=generator, dtype=torch.float64)
    leaf = student.clone().requires_grad_()
    value = function(student_logits=leaf / tau, teacher_logits=teacher / tau)
    (expected,) = torch.autograd.grad(tau**2 * value.sum(), leaf)
    found = kl_gradients(student, teacher, tau)[function.__name__]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_the_gradient_of_cross_entropy() -> None:
    log_q = torch.log(torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]))
    found = hard_gradient(log_q, torch.tensor([2, 1]))
    torch.testing.assert_close(found, torch.tensor([[0.2, 0.3, -0.5], [0.6, -0.7, 0.1]]))


def test_shares_are_of_the_whole_mass_and_not_means_of_rows() -> None:
    # The first row's mass of 8 lies to one half on its top, the second's of 2 to one quarter.
    gradient = torch.tensor(
        [[4.0, -1, -1, -1, -1, 0, 0], [0.5, -0.5, -0.25, 0.25, 0.25, 0.0, 0.25]]
    )
    top = torch.tensor([[0, 1, 2, 3, 5], [0, 1, 2, 3, 4]])
    summary = GradientRows.of(gradient, top).summary()
    assert summary["off_top1"] == pytest.approx((4 + 1.5) / 10)
    assert summary["off_top5"] == pytest.approx((1 + 0.25) / 10)
    squares = 16 + 4, 2 * 0.25 + 4 * 0.0625
    assert summary["norm"] == pytest.approx(math.sqrt(sum(squares) / 2))
    assert "cosine" not in summary


def test_of_no_more_than_five_classes_nothing_is_off_the_five_largest() -> None:
    gradient = kl_gradients(STUDENT, TEACHER, 1.0)["forward_kl"]
    summary = GradientRows.of(gradient, top_columns(TEACHER)).summary()
    assert summary["off_top5"] == pytest.approx(0, abs=1e-15)
    known = [abs(entry) for entry in KNOWN[1.0, "forward_kl"]]
    assert summary["off_top1"] == pytest.approx(1 - known[2] / sum(known))  # the teacher's is 2


def test_no_entry_outweighs_all_others_together() -> None:
    """Rows that sum to 0, as those of every divergence do, have half of their mass off any."""
    generator = torch.Generator().manual_seed(2)
    student, teacher = 5 * torch.randn(2, 50, 12, generator=generator)
    for gradient in kl_gradients(student, teacher, 0.5).values():
        assert GradientRows.of(gradient, top_columns(teacher)).summary()["off_top1"] >= 0.5 - 1e-6


def test_rows_vanish_below_the_threshold() -> None:
    half = VANISHING / 2
    gradient = torch.tensor([[0.99 * half, -0.99 * half], [1.01 * half, -1.01 * half], [0.0, 0.0]])
    summary = GradientRows.of(gradient, torch.tensor([[0, 1]] * 3)).summary()
    assert summary["vanishing"] == pytest.approx(2 / 3)


def test_what_a_gradient_of_nothing_leaves_undefined_is_left_out() -> None:
    nothing = torch.zeros(2, 3)
    assert GradientRows.of(nothing, torch.tensor([[0], [1]]), nothing).summary() == {
        "vanishing": 1.0,
        "norm": 0.0,
    }


def test_the_cosine_is_of_all_rows_together() -> None:
    gradient, other = torch.tensor([[3.0, 0], [0, 4]]), torch.tensor([[3.0, 0], [4, 0]])
    summary = GradientRows.of(gradient, torch.tensor([[0], [0]]), other).summary()
    assert summary["cosine"] == pytest.approx(9 / 25)


def test_parts_are_joined_in_float64() -> None:
    generator = torch.Generator().manual_seed(3)
    student, teacher = torch.randn(2, 7, 9, generator=generator)
    whole = ladder(student, teacher, (0.5, 2.0))
    parts = [ladder(student[rows], teacher[rows], (0.5, 2.0)) for rows in (slice(3), slice(3, 7))]
    for one, of_parts in zip(whole, zip(*parts, strict=True), strict=True):
        found = Rung.joined(of_parts)
        assert found.tau == one.tau and found.entropy.dtype == torch.float64
        torch.testing.assert_close(found.entropy.float(), one.entropy)
        for name, rows in found.gradients.items():
            expected = GradientRows.joined([one.gradients[name]]).summary()
            assert rows.summary() == pytest.approx(expected)


def test_at_temperature_1_a_rung_is_the_gradient_it_is_compared_with() -> None:
    (rung,) = ladder(STUDENT, TEACHER, (1.0,))
    for rows in rung.gradients.values():
        assert rows.summary()["cosine"] == pytest.approx(1)
    assert float(rung.entropy) == pytest.approx(float(entropy(TEACHER.log_softmax(-1))))


def test_high_temperatures_move_the_mass_off_the_largest() -> None:
    """Forward KL's gradient tends to the centred difference of the logits, in which the teacher's
    largest entry is one of many."""
    teacher = torch.zeros(1, 100)
    teacher[0, 0] = 9.0
    student = torch.linspace(-1, 1, 100).unsqueeze(0)
    shares = [
        rung.gradients["forward_kl"].summary()["off_top1"]
        for rung in ladder(student, teacher, (1.0, 2.0, 4.0, 100.0))
    ]
    assert shares[0] == pytest.approx(0.5, abs=1e-3)
    assert shares == sorted(shares)
    gap = student - teacher
    limit = (gap - gap.mean()).abs()
    assert shares[-1] == pytest.approx(float(1 - limit[0, 0] / limit.sum()), abs=0.02)


def test_entropies_count_nothing_for_what_cannot_be() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf], [3.0, -torch.inf, -torch.inf]])
    torch.testing.assert_close(
        entropy(log_softened(logits, 2.0)), torch.tensor([math.log(2), 0.0]), atol=1e-6, rtol=0
    )


def test_the_deviation_at_the_same_mean_is_between_the_rungs() -> None:
    rungs = [(2.0, 0.4), (1.0, 0.8), (3.0, 0.2)]
    assert matched_deviation(1.25, rungs) == pytest.approx(0.7)
    assert matched_deviation(2.5, rungs) == pytest.approx(0.3)
    assert matched_deviation(3.0, rungs) == pytest.approx(0.2)
    assert matched_deviation(3.1, rungs) is None
    assert matched_deviation(1.0, []) is None
