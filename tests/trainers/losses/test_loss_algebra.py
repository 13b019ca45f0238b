"""Identities between divergences, temperatures and limits that hold exactly."""

import math

import pytest
import torch
from torch import Tensor

from trainers.losses import DIVERGENCE_FUNCTIONS, soften
from trainers.losses.context import LossContext
from trainers.losses.passes import BatchSettings, adaptive_temperature, hellinger
from trainers.losses.schedules import MixSchedule
from trainers.losses.soft_term import SoftTerm
from trainers.trial.catalogue import POLICIES, POLICY_TWINS, TWINS
from trainers.trial.config import TrialConfig
from trainers.trial.traits import Policy

ROWS, VOCAB = 4, 17


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    student, teacher = 2 * torch.randn(2, ROWS, VOCAB, generator=generator, dtype=torch.float64)
    return student, teacher


def _soft(config: TrialConfig, student: Tensor, teacher: Tensor) -> Tensor:
    labels = torch.zeros(student.shape[0], dtype=torch.long)
    settings = BatchSettings()
    if config.policy == Policy.TOKEN_ADAPTIVE:
        settings = BatchSettings(
            temperature=adaptive_temperature(config, hellinger(student, teacher))
        )
    if config.divergence == "interpolated":  # at the first step
        start = MixSchedule(config.mix_start, config.mix_end, config.mix_rate)
        settings = BatchSettings(mix=start(LossContext(step=0, num_steps=10)))
    return SoftTerm(config, student.shape[1]).values(student, teacher, labels, settings)


def _slope(config: TrialConfig, student: Tensor, teacher: Tensor) -> Tensor:
    leaf = student.clone().requires_grad_()
    return torch.autograd.grad(_soft(config, leaf, teacher).sum(), leaf)[0]


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0, 4.0])
def test_forward_kl_gradient(logits: tuple[Tensor, Tensor], tau: float) -> None:
    student, teacher = logits
    q, p = (student / tau).softmax(-1), (teacher / tau).softmax(-1)
    config = TrialConfig(divergence="forward_kl", tau=tau, scaling="none")
    torch.testing.assert_close(_slope(config, student, teacher), (q - p) / tau)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0, 4.0])
def test_reverse_kl_gradient(logits: tuple[Tensor, Tensor], tau: float) -> None:
    student, teacher = logits
    q, gap = (student / tau).softmax(-1), student - teacher
    config = TrialConfig(divergence="reverse_kl", tau=tau, scaling="none")
    expected = q * (gap - (q * gap).sum(-1, keepdim=True)) / tau**2
    torch.testing.assert_close(_slope(config, student, teacher), expected)


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl"])
def test_both_kls_tend_to_centred_mse(logits: tuple[Tensor, Tensor], divergence: str) -> None:
    student, teacher = logits
    limit = _soft(TrialConfig(divergence="centred_mse"), student, teacher)
    errors = []
    for tau in (30.0, 300.0):
        value = _soft(TrialConfig(divergence=divergence, tau=tau), student, teacher)
        errors.append((value / limit - 1).abs().max().item())
    assert errors[1] < 0.01
    assert errors[1] < errors[0] / 5


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_concrete_score_has_tau_squared_times_reverse_kls_gradient(
    logits: tuple[Tensor, Tensor], tau: float
) -> None:
    student, teacher = logits
    plain = TrialConfig(divergence="reverse_kl", tau=tau, scaling="none")
    q, gap = (student / tau).softmax(-1), student - teacher
    surrogate = q * (gap - (q * gap).sum(-1, keepdim=True))  # of unsoftened logits, as published
    torch.testing.assert_close(surrogate, tau**2 * _slope(plain, student, teacher))
    config = TrialConfig(divergence="concrete_score", tau=tau)
    torch.testing.assert_close(_slope(config, student, teacher), surrogate)


@pytest.mark.parametrize(
    ("alpha", "beta", "name"), [(1.0, 0.0, "forward_kl"), (0.0, 1.0, "reverse_kl")]
)
def test_alpha_beta_has_the_kls_at_its_corners(
    logits: tuple[Tensor, Tensor], alpha: float, beta: float, name: str
) -> None:
    given = {"student_logits": logits[0], "teacher_logits": logits[1]}
    corner = DIVERGENCE_FUNCTIONS["alpha_beta"](**given, alpha=alpha, beta=beta)
    torch.testing.assert_close(corner, DIVERGENCE_FUNCTIONS[name](**given))


@pytest.mark.parametrize(
    ("alpha", "beta"), [(0.5, 0.0), (0.0, 0.5), (2.0, 0.0), (0.4, -0.4), (0.0, 0.0)]
)
def test_alpha_beta_is_continuous_where_its_formula_is_not_defined(
    logits: tuple[Tensor, Tensor], alpha: float, beta: float
) -> None:
    given = {"student_logits": logits[0], "teacher_logits": logits[1]}
    limit = DIVERGENCE_FUNCTIONS["alpha_beta"](**given, alpha=alpha, beta=beta)
    for step in ((1e-5, 2e-5), (-1e-5, -2e-5)):
        near = DIVERGENCE_FUNCTIONS["alpha_beta"](
            **given, alpha=alpha + step[0], beta=beta + step[1]
        )
        torch.testing.assert_close(near, limit, rtol=1e-3, atol=1e-6)


def test_alpha_beta_at_a_half_is_four_times_squared_hellinger(
    logits: tuple[Tensor, Tensor],
) -> None:
    student, teacher = logits
    value = DIVERGENCE_FUNCTIONS["alpha_beta"](
        student_logits=student, teacher_logits=teacher, alpha=0.5, beta=0.5
    )
    roots = (student.softmax(-1).sqrt() - teacher.softmax(-1).sqrt()).square().sum(-1)
    torch.testing.assert_close(value, 2 * roots)


def test_generalized_jsd_is_the_kls_at_its_ends_and_jumps_there(
    logits: tuple[Tensor, Tensor],
) -> None:
    given = {"student_logits": logits[0], "teacher_logits": logits[1]}
    row = DIVERGENCE_FUNCTIONS["generalized_jsd"]
    torch.testing.assert_close(row(**given, beta=0.0), DIVERGENCE_FUNCTIONS["forward_kl"](**given))
    torch.testing.assert_close(row(**given, beta=1.0), DIVERGENCE_FUNCTIONS["reverse_kl"](**given))
    for beta, name in ((1e-6, "forward_kl"), (1 - 1e-6, "reverse_kl")):
        inside = row(**given, beta=beta)
        assert inside.max() < 1e-4
        # Divided by beta (1 - beta) it tends to the KL of that end.
        torch.testing.assert_close(
            row(**given, beta=beta, unit_curvature=True),
            DIVERGENCE_FUNCTIONS[name](**given),
            rtol=1e-3,
            atol=1e-4,
        )


@pytest.mark.parametrize("beta", [0.05, 0.3, 0.8])
def test_unit_curvature_gives_every_beta_the_kls_size_near_equality(
    logits: tuple[Tensor, Tensor], beta: float
) -> None:
    teacher = logits[1]
    given = {"student_logits": teacher + 1e-3 * logits[0], "teacher_logits": teacher}
    value = DIVERGENCE_FUNCTIONS["generalized_jsd"](**given, beta=beta, unit_curvature=True)
    torch.testing.assert_close(
        value, DIVERGENCE_FUNCTIONS["forward_kl"](**given), rtol=1e-2, atol=0
    )


def test_skews_are_the_kls_at_alpha_0_and_vanish_towards_1(logits: tuple[Tensor, Tensor]) -> None:
    given = {"student_logits": logits[0], "teacher_logits": logits[1]}
    for skew, name in (("skew_forward_kl", "forward_kl"), ("skew_reverse_kl", "reverse_kl")):
        at_0 = DIVERGENCE_FUNCTIONS[skew](**given, alpha=0.0)
        torch.testing.assert_close(at_0, DIVERGENCE_FUNCTIONS[name](**given))
        assert DIVERGENCE_FUNCTIONS[skew](**given, alpha=1 - 1e-9).abs().max() < 1e-7


def test_total_variation_shrinks_like_one_over_tau(logits: tuple[Tensor, Tensor]) -> None:
    config = TrialConfig(divergence="total_variation", tau=200.0)
    assert config.scaling == "tau"
    first, second = (
        _soft(TrialConfig(divergence="total_variation", tau=tau), *logits) for tau in (200.0, 400.0)
    )
    torch.testing.assert_close(first, second, rtol=0.02, atol=0)


@pytest.mark.parametrize("scaling", ["none", "teacher_student", "teacher_squared"])
@pytest.mark.parametrize("detach", [False, True])
def test_cist_gradient_written_out(
    logits: tuple[Tensor, Tensor], scaling: str, detach: bool
) -> None:
    student, teacher = logits
    rho = 6.0
    config = TrialConfig(policy="cist", rho=rho, scaling=scaling, detach_student_temperature=detach)
    centred_s = student - student.mean(-1, keepdim=True)
    centred_t = teacher - teacher.mean(-1, keepdim=True)
    tau_s = centred_s.amax(-1, keepdim=True) / rho
    tau_t = centred_t.amax(-1, keepdim=True) / rho
    soft_s, q, p = centred_s / tau_s, (student / tau_s).softmax(-1), (teacher / tau_t).softmax(-1)
    weight = {"none": 1.0, "teacher_student": tau_t * tau_s, "teacher_squared": tau_t**2}[scaling]
    by_soft = q - p
    expected = by_soft / tau_s
    if not detach:
        top = torch.nn.functional.one_hot(student.argmax(-1), VOCAB).double()
        pull = (by_soft * soft_s).sum(-1, keepdim=True)
        expected = expected - pull * (top - 1 / VOCAB) / (rho * tau_s)
    torch.testing.assert_close(_slope(config, student, teacher), weight * expected)


@pytest.mark.parametrize("policy", ["cist", "logit_standardization", "dynamic"])
def test_centred_policies_do_not_see_a_constant(logits: tuple[Tensor, Tensor], policy: str) -> None:
    config = TrialConfig(policy=policy)
    shifted = _soft(config, logits[0] + 11.0, logits[1] - 7.0)
    torch.testing.assert_close(shifted, _soft(config, *logits))


@pytest.mark.parametrize("policy", ["cist", "logit_standardization"])
def test_scale_free_policies_leave_the_students_scale_to_the_hard_loss(
    logits: tuple[Tensor, Tensor], policy: str
) -> None:
    config = TrialConfig(policy=policy, scaling="none")
    torch.testing.assert_close(_soft(config, 3.0 * logits[0], logits[1]), _soft(config, *logits))
    fixed = TrialConfig(scaling="none", tau=2.0)
    assert not torch.allclose(_soft(fixed, 3.0 * logits[0], logits[1]), _soft(fixed, *logits))
    # So its gradient has no part along the (centred) logits themselves.
    slope, centred = _slope(config, *logits), logits[0] - logits[0].mean(-1, keepdim=True)
    assert (slope * centred).sum(-1).abs().max() < 1e-12


@pytest.mark.parametrize("policy", sorted(set(Policy) - {Policy.NONE}))
def test_a_multiple_of_the_teacher_is_no_loss_where_the_scale_is_free(
    logits: tuple[Tensor, Tensor], policy: Policy
) -> None:
    told = {Policy.CURRICULUM: (ROWS,), Policy.CURRICULUM_INSTANCE: (ROWS,)}
    told |= {Policy.TOKEN_ADAPTIVE: (ROWS,), Policy.LOOK_AHEAD: (ROWS, 2)}
    given = torch.full(told[policy], 2.0).double() if policy in told else None
    settings = BatchSettings(given)
    term = SoftTerm(TrialConfig(policy=policy), VOCAB)
    value = term.values(3 * logits[1], logits[1], torch.zeros(ROWS).long(), settings)
    assert bool((value.abs() < 1e-12).all()) == POLICIES[policy].scale_free


@pytest.mark.parametrize(("name", "parameters", "other"), TWINS, ids=str)
def test_twins_have_one_gradient(
    logits: tuple[Tensor, Tensor], name: str, parameters: dict[str, object], other: str
) -> None:
    for fields in ({"tau": 2.0}, {"policy": "cist"}):
        found = _slope(TrialConfig(divergence=name, **parameters, **fields), *logits)
        torch.testing.assert_close(found, _slope(TrialConfig(divergence=other, **fields), *logits))


@pytest.mark.parametrize(("name", "parameters", "other"), POLICY_TWINS, ids=str)
@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl"])
def test_twins_among_policies_have_one_gradient(
    logits: tuple[Tensor, Tensor],
    name: str,
    parameters: dict[str, object],
    other: str,
    divergence: str,
) -> None:
    for tau in {parameters.get("tau", 2.0), parameters.get("tau", 0.7)}:
        fields = {"divergence": divergence, "tau": tau}
        found = _slope(TrialConfig(policy=name, **parameters | fields), *logits)
        torch.testing.assert_close(found, _slope(TrialConfig(policy=other, **fields), *logits))


def test_cist_puts_the_largest_softened_logit_at_rho(logits: tuple[Tensor, Tensor]) -> None:
    softened = soften(TrialConfig(policy="cist", rho=6.0), *logits, VOCAB)
    for side in (softened.student, softened.teacher):
        torch.testing.assert_close(side.amax(-1), torch.full((ROWS,), 6.0, dtype=torch.float64))
    by_vocab = soften(TrialConfig(policy="cist", rho_per_log_vocab=1.5), *logits, VOCAB)
    torch.testing.assert_close(
        by_vocab.teacher.amax(-1), torch.full((ROWS,), 1.5 * math.log(VOCAB)).double()
    )
