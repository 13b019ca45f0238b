"""Values and gradients of the divergences, by hand, by scipy and from the papers' formulas."""

import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from trainers.losses import DIVERGENCE_FUNCTIONS
from trainers.losses.adaptive_head import head_share, sums_by_bucket, whole_running_sums
from trainers.losses.weighted import adaptive_kl


def _logits(rows: int = 5, vocab: int = 13, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 2 * torch.randn(2, rows, vocab, generator=generator, dtype=torch.float64)
    return student, teacher


def _oracle(student: torch.Tensor, teacher: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    return softmax(student.numpy(), axis=-1), softmax(teacher.numpy(), axis=-1)


def _kl(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return rel_entr(a, b).sum(-1)


def _adaptive(q: np.ndarray, p: np.ndarray, mass: float) -> np.ndarray:
    values = []
    for row_q, row_p in zip(q, p, strict=True):
        order = np.argsort(-row_p)
        num_head = int(np.searchsorted(np.cumsum(row_p[order]), mass)) + 1
        gap = np.abs(row_p - row_q)
        share = gap[order[:num_head]].sum() / gap.sum()
        values.append(share * _kl(row_p, row_q) + (1 - share) * _kl(row_q, row_p))
    return np.array(values)


def _alpha_beta(q: np.ndarray, p: np.ndarray, a: float, b: float) -> np.ndarray:
    inner = p**a * q**b - a / (a + b) * p ** (a + b) - b / (a + b) * q ** (a + b)
    return -inner.sum(-1) / (a * b)


def _normalised(a: np.ndarray) -> np.ndarray:
    return a / a.sum(-1, keepdims=True)


def _entropy(a: np.ndarray) -> np.ndarray:
    return -(a * np.log(a)).sum(-1)


def _pairs(q: np.ndarray, p: np.ndarray, outer: np.ndarray) -> np.ndarray:
    gap = np.log(q) - np.log(p)
    squares = (gap[:, :, None] - gap[:, None, :]) ** 2
    return 0.25 * (outer[:, :, None] * q[:, None, :] * squares).sum((1, 2))


ORACLES = {
    "forward_kl": ({}, lambda q, p: _kl(p, q)),
    "reverse_kl": ({}, lambda q, p: _kl(q, p)),
    "reverse_cross_entropy": ({}, lambda q, p: -(q * np.log(p)).sum(-1)),
    "jeffreys": ({"weight": 0.3}, lambda q, p: 0.7 * _kl(p, q) + 0.3 * _kl(q, p)),
    "generalized_jsd": (
        {"beta": 0.3},
        lambda q, p: 0.3 * _kl(p, 0.3 * p + 0.7 * q) + 0.7 * _kl(q, 0.3 * p + 0.7 * q),
    ),
    "skew_forward_kl": ({"alpha": 0.2}, lambda q, p: _kl(p, 0.2 * p + 0.8 * q)),
    "skew_reverse_kl": ({"alpha": 0.2}, lambda q, p: _kl(q, 0.2 * q + 0.8 * p)),
    "total_variation": ({}, lambda q, p: 0.5 * np.abs(p - q).sum(-1)),
    "adaptive_kl": ({"head_mass": 0.6}, lambda q, p: _adaptive(q, p, 0.6)),
    "alpha_beta": ({"alpha": 0.4, "beta": 0.9}, lambda q, p: _alpha_beta(q, p, 0.4, 0.9)),
    "alpha_mixture": (
        {"alpha": -3.0, "mixture_weight": 0.3},
        lambda q, p: _kl(p, _normalised((0.3 * p**2 + 0.7 * q**2) ** 0.5)),
    ),
    "token_wise": ({}, lambda q, p: _kl(p, q) + _kl(q, p)),
    "concrete_score": (
        {"weighting": "teacher_student"},
        lambda q, p: _pairs(q, p, p),
    ),
    "entropy_aware": (
        {"forward_weight": 2.0, "entropy_threshold": 1.5},
        lambda q, p: _kl(q, p) + 2 * np.where(_entropy(p) >= 1.5, 1, 0) * _kl(p, q),
    ),
    "entropy_switched": (
        {"entropy_weight": 4.0},
        lambda q, p: (
            np.where(_entropy(p) > _entropy(q), 4, 1) * _kl(p, q)
            + np.where(_entropy(q) > _entropy(p), 4, 1) * _kl(q, p)
        ),
    ),
    "centred_mse": (
        {},
        lambda q, p: 0.5 * np.var(np.log(q) - np.log(p), axis=-1),
    ),
}


def test_every_divergence_has_an_oracle() -> None:
    assert set(ORACLES) == set(DIVERGENCE_FUNCTIONS)


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_value_is_the_formulas(name: str) -> None:
    parameters, oracle = ORACLES[name]
    student, teacher = _logits()
    value = DIVERGENCE_FUNCTIONS[name](student_logits=student, teacher_logits=teacher, **parameters)
    np.testing.assert_allclose(value.numpy(), oracle(*_oracle(student, teacher)), rtol=1e-10)


def test_uniform_and_student_weightings_of_concrete_score() -> None:
    student, teacher = _logits()
    q, p = _oracle(student, teacher)
    row = DIVERGENCE_FUNCTIONS["concrete_score"]
    for weighting, outer in (("student", q), ("uniform_student", np.full_like(q, 1 / 13))):
        value = row(student_logits=student, teacher_logits=teacher, weighting=weighting)
        np.testing.assert_allclose(value.numpy(), _pairs(q, p, outer), rtol=1e-10)


def test_two_entries_by_hand() -> None:
    teacher = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)  # p = (3/4, 1/4)
    student = torch.zeros(1, 2, dtype=torch.float64)  # q = (1/2, 1/2)
    hand = {
        "forward_kl": 0.75 * math.log(1.5) + 0.25 * math.log(0.5),
        "reverse_kl": 0.5 * math.log(2 / 3) + 0.5 * math.log(2.0),
        "total_variation": 0.25,
        "centred_mse": math.log(3.0) ** 2 / 8,
    }
    for name, value in hand.items():
        found = DIVERGENCE_FUNCTIONS[name](student_logits=student, teacher_logits=teacher)
        assert found.item() == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("vocab", [2, 7, 100, 3000, 20_000])
@pytest.mark.parametrize("mass", [0.0, 0.05, 0.5, 0.95])
def test_adaptive_head_is_the_sorted_one(vocab: int, mass: float) -> None:
    for scale in (0.01, 1.0, 10.0):
        student, teacher = (scale * logits for logits in _logits(4, vocab, seed=vocab))
        value = adaptive_kl(student_logits=student, teacher_logits=teacher, head_mass=mass)
        oracle = _adaptive(*_oracle(student, teacher), mass)
        np.testing.assert_allclose(value.numpy(), oracle, rtol=1e-8)


def test_adaptive_heads_of_tied_entries_hang_on_neither_order_nor_other_rows() -> None:
    """Teachers in bfloat16 have ties in almost every row."""
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(8, 190, generator=generator, dtype=torch.float64)
    teacher = torch.randint(0, 3, (8, 190), generator=generator).double()
    row = DIVERGENCE_FUNCTIONS["adaptive_kl"]
    together = row(student_logits=student, teacher_logits=teacher, head_mass=0.7)
    for one in range(8):
        rows = {"student_logits": student[one : one + 1], "teacher_logits": teacher[one : one + 1]}
        torch.testing.assert_close(row(**rows, head_mass=0.7), together[one : one + 1])
    order = torch.randperm(190, generator=generator)
    moved = row(student_logits=student[:, order], teacher_logits=teacher[:, order], head_mass=0.7)
    torch.testing.assert_close(moved, together)


def test_adaptive_head_takes_the_same_share_of_each_tied_entry() -> None:
    teacher = torch.tensor([[0.4, 0.2, 0.2, 0.2]], dtype=torch.float64)
    student = torch.tensor([[0.1, 0.3, 0.4, 0.2]], dtype=torch.float64)
    # Two of the three are needed for 0.7: two thirds of the gaps 0.1, 0.2 and 0.
    share = head_share(student, teacher, 0.7)
    assert share.item() == pytest.approx((0.3 + 2 / 3 * 0.3) / 0.6)


@pytest.mark.parametrize("mass", [0.999, 0.9999999, 1 - 1e-12])
@pytest.mark.parametrize("scale", [0.0, 0.5, 30.0])
def test_adaptive_lies_between_both_kls_where_rounding_hides_the_mass(
    mass: float, scale: float
) -> None:
    """Float32 probabilities may sum up to less than a mass that is nearly all."""
    for vocab in (3, 300, 20_000):
        student, teacher = (logits.float() for logits in _logits(8, vocab, seed=vocab))
        logits = {"student_logits": student, "teacher_logits": scale * teacher}
        forward, reverse = (
            DIVERGENCE_FUNCTIONS[name](**logits) for name in ("forward_kl", "reverse_kl")
        )
        value = adaptive_kl(**logits, head_mass=mass)
        slack = 1e-5 * torch.maximum(forward, reverse)
        assert (value <= torch.maximum(forward, reverse) + slack).all()
        assert (value >= torch.minimum(forward, reverse) - slack).all()


def test_running_sums_over_whole_numbers_are_those_of_floats() -> None:
    values = torch.rand(3, 500, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values /= values.sum(-1, keepdim=True)
    for given, tolerance in ((values, 1e-12), (values.float(), 1e-6)):
        found = whole_running_sums(given)
        assert found.dtype == given.dtype
        np.testing.assert_allclose(found.numpy(), np.cumsum(values.numpy(), -1), rtol=tolerance)


def test_values_are_added_up_by_bucket_in_either_way() -> None:
    """Narrow bucket numbers, too small to count on over the rows, take the way of a GPU."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(40, 500, generator=generator)
    bucket = torch.randint(-7, 993, values.shape, generator=generator, dtype=torch.int16)
    expected = np.zeros((40, 1000))
    np.add.at(expected, (np.arange(40)[:, None], 992 - bucket.numpy()), values.numpy())
    for dtype in (torch.int16, torch.int32):
        sums = sums_by_bucket(values, bucket.to(dtype, copy=True), 992, 1000)
        assert sums.dtype == values.dtype
        np.testing.assert_allclose(sums.numpy(), expected, rtol=1e-5)


def test_adaptive_with_everything_in_the_head_is_forward_kl() -> None:
    student, teacher = (10 * logits for logits in _logits())
    logits = {"student_logits": student, "teacher_logits": teacher}
    assert torch.equal(
        adaptive_kl(**logits, head_mass=1.0), DIVERGENCE_FUNCTIONS["forward_kl"](**logits)
    )


def test_adaptive_weights_are_halves_at_equality() -> None:
    student = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    value = adaptive_kl(student_logits=student, teacher_logits=student.clone())
    assert value.abs().max() < 1e-15


@pytest.mark.parametrize("rows", [1, 4])
def test_no_positions_and_gradients_of_the_right_kind(rows: int) -> None:
    for name, row in DIVERGENCE_FUNCTIONS.items():
        empty = row(student_logits=torch.zeros(0, 5), teacher_logits=torch.zeros(0, 5))
        assert empty.shape == (0,), name
        leaf = torch.randn(rows, 5, dtype=torch.bfloat16).requires_grad_()
        row(student_logits=leaf, teacher_logits=torch.randn(rows, 5)).sum().backward()
        assert leaf.grad is not None and leaf.grad.dtype == torch.bfloat16, name


def _slope(name: str, student: torch.Tensor, teacher: torch.Tensor, **parameters: object):
    leaf = student.clone().requires_grad_()
    value = DIVERGENCE_FUNCTIONS[name](student_logits=leaf, teacher_logits=teacher, **parameters)
    return torch.autograd.grad(value.sum(), leaf)[0].numpy()


def _through_softmax(q: np.ndarray, by_log_q: np.ndarray) -> np.ndarray:
    """d/dz of a function whose derivative by log q is given."""
    return by_log_q - q * by_log_q.sum(-1, keepdims=True)


def test_gradient_of_token_wise_holds_its_weights_constant() -> None:
    student, teacher = _logits()
    q, p = _oracle(student, teacher)
    share = p / (p + q)
    by_log_q = -share * p + (1 - share) * q * (np.log(q / p) + 1)
    np.testing.assert_allclose(
        _slope("token_wise", student, teacher), _through_softmax(q, by_log_q), rtol=1e-9
    )
    assert not np.allclose(
        _slope("token_wise", student, teacher), 2 * _slope("jeffreys", student, teacher)
    )


def test_gradient_of_adaptive_holds_its_weights_constant() -> None:
    student, teacher = _logits(rows=1)
    q, p = _oracle(student, teacher)
    forward, reverse = _kl(p, q), _kl(q, p)
    share = (_adaptive(q, p, 0.5) - reverse) / (forward - reverse)
    expected = share * (q - p) + (1 - share) * q * (np.log(q / p) - reverse)
    np.testing.assert_allclose(_slope("adaptive_kl", student, teacher), expected, rtol=1e-8)


def test_gradient_of_skew_reverse_with_a_constant_mixture() -> None:
    student, teacher = _logits()
    q, p = _oracle(student, teacher)
    by_log_q = q * (np.log(q / (0.2 * q + 0.8 * p)) + 1)
    found = _slope("skew_reverse_kl", student, teacher, alpha=0.2, detach_mixture=True)
    np.testing.assert_allclose(found, _through_softmax(q, by_log_q), rtol=1e-9)


@pytest.mark.parametrize("weighting", ["uniform_student", "teacher_student"])
def test_gradient_of_concrete_score_holds_its_weights_constant(weighting: str) -> None:
    student, teacher = _logits()
    q, p = _oracle(student, teacher)
    outer = p if weighting == "teacher_student" else np.full_like(q, 1 / 13)
    gap = student.numpy() - teacher.numpy()
    means = [(weights * gap).sum(-1, keepdims=True) for weights in (q, outer)]
    expected = 0.5 * (outer * (gap - means[0]) + q * (gap - means[1]))
    found = _slope("concrete_score", student, teacher, weighting=weighting)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
