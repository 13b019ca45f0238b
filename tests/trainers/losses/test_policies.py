"""Temperature policies: what they soften, how they weigh, and what they leave alone."""

import pytest
import torch
from torch import Tensor

from trainers.losses import POLICY_FUNCTIONS, soften
from trainers.losses.passes import BatchSettings, adaptive_temperature, hellinger
from trainers.losses.soft_term import SoftTerm
from trainers.trial.catalogue import DIVERGENCES, POLICIES
from trainers.trial.config import TrialConfig
from trainers.trial.traits import Policy

ROWS, VOCAB = 5, 12


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    student, teacher = 2 * torch.randn(2, ROWS, VOCAB, generator=generator, dtype=torch.float64)
    return student, teacher


def _settings(policy: str) -> Tensor | None:
    if policy == Policy.CURRICULUM:
        return torch.tensor(3.0, dtype=torch.float64)
    if policy in (Policy.TOKEN_ADAPTIVE, Policy.CURRICULUM_INSTANCE):
        return torch.linspace(0.5, 2.0, ROWS, dtype=torch.float64)
    if policy == Policy.LOOK_AHEAD:
        return torch.tensor([3.0, 2.0], dtype=torch.float64).expand(ROWS, 2)
    return None


def _config(policy: str, **fields: object) -> TrialConfig:
    divergence = "centred_mse" if policy == Policy.NONE else "forward_kl"
    return TrialConfig(divergence=divergence, policy=policy, **fields)


@pytest.mark.parametrize("policy", list(POLICY_FUNCTIONS))
def test_softened_rows_are_the_logits_over_their_temperatures(
    logits: tuple[Tensor, Tensor], policy: Policy
) -> None:
    softened = soften(_config(policy), *logits, VOCAB, _settings(policy))
    for raw, soft, tau in (
        (logits[0], softened.student, softened.tau_s),
        (logits[1], softened.teacher, softened.tau_t),
    ):
        assert soft.shape == (ROWS, VOCAB) and tau.shape == (ROWS,)
        torch.testing.assert_close(
            soft.softmax(-1), (raw / tau.unsqueeze(-1)).softmax(-1), rtol=1e-12, atol=0
        )
    assert softened.weight.shape == (ROWS,)


@pytest.mark.parametrize("policy", list(POLICY_FUNCTIONS))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_softened_is_float32_and_the_teacher_has_no_gradient(
    policy: Policy, dtype: torch.dtype
) -> None:
    student = torch.randn(ROWS, VOCAB).to(dtype).requires_grad_()
    teacher = torch.randn(ROWS, VOCAB).to(dtype).requires_grad_()
    softened = soften(_config(policy), student, teacher, VOCAB, _settings(policy))
    assert softened.student.dtype == softened.teacher.dtype
    assert softened.student.dtype == torch.float32 or _settings(policy) is not None
    assert softened.student.requires_grad and not softened.teacher.requires_grad


def test_temperatures_by_hand() -> None:
    student = torch.tensor([[3.0, 0.0, -3.0]])  # centred maximum 3, deviation √6
    teacher = torch.tensor([[7.0, 1.0, 1.0]])  # centred maximum 4, deviation √8
    hand = {
        "none": (1.0, 1.0, {}),
        "fixed": (2.5, 2.5, {"tau": 2.5}),
        "fixed_teacher": (2.5, 1.0, {"tau": 2.5}),
        "cist": (4 / 8, 3 / 8, {"rho": 8.0}),
        "logit_standardization": (3 * 8**0.5, 3 * 6**0.5, {"tau": 3.0}),
        "dynamic": (2 * 2 * 4 / 7, 2 * 2 * 3 / 7, {"tau": 2.0}),
    }
    for policy, (tau_t, tau_s, fields) in hand.items():
        softened = soften(_config(policy, **fields), student, teacher, 3)
        assert softened.tau_t.item() == pytest.approx(tau_t, rel=1e-6), policy
        assert softened.tau_s.item() == pytest.approx(tau_s, rel=1e-6), policy


@pytest.mark.parametrize(
    ("policy", "scaling", "factor"),
    [
        ("fixed", "none", lambda tau_t, tau_s: 1 + 0 * tau_t),
        ("fixed", "tau", lambda tau_t, tau_s: tau_s),
        ("fixed", "tau_squared", lambda tau_t, tau_s: tau_s**2),
        ("fixed_teacher", "none", lambda tau_t, tau_s: 1 + 0 * tau_t),
        ("cist", "none", lambda tau_t, tau_s: 1 + 0 * tau_t),
        ("cist", "teacher_student", lambda tau_t, tau_s: tau_t * tau_s),
        ("cist", "teacher_squared", lambda tau_t, tau_s: tau_t**2),
        ("dynamic", "teacher_student", lambda tau_t, tau_s: tau_t * tau_s),
        ("logit_standardization", "tau_squared", lambda tau_t, tau_s: 4.0 + 0 * tau_t),
        ("logit_standardization", "tau", lambda tau_t, tau_s: 2.0 + 0 * tau_t),
        ("curriculum", "tau_squared", lambda tau_t, tau_s: tau_s**2),
        ("token_adaptive", "tau_squared", lambda tau_t, tau_s: tau_s**2),
        ("look_ahead", "teacher_student", lambda tau_t, tau_s: tau_t * tau_s),
    ],
)
def test_scaling_multiplies_once(
    logits: tuple[Tensor, Tensor], policy: str, scaling: str, factor: object
) -> None:
    fields = {"tau": 2.0} if "tau" in POLICIES[Policy(policy)].parameters else {}
    softened = soften(_config(policy, scaling=scaling, **fields), *logits, VOCAB, _settings(policy))
    expected = factor(softened.tau_t, softened.tau_s)  # type: ignore[operator]
    torch.testing.assert_close(softened.weight, expected)


def test_default_scalings_are_the_designs() -> None:
    assert TrialConfig().scaling == "tau_squared"
    assert TrialConfig(policy="fixed_teacher").scaling == "none"
    assert TrialConfig(policy="cist").scaling == "teacher_student"
    assert TrialConfig(policy="cist").detach_student_temperature is False
    for policy in ("fixed", "logit_standardization"):
        assert TrialConfig(divergence="total_variation", policy=policy).scaling == "tau"


def test_no_gradient_goes_through_the_weight(logits: tuple[Tensor, Tensor]) -> None:
    student = logits[0].clone().requires_grad_()
    for policy in ("cist", "dynamic", "logit_standardization"):
        assert not soften(_config(policy), student, logits[1], VOCAB).weight.requires_grad


def test_temperatures_are_clamped_and_then_constant(logits: tuple[Tensor, Tensor]) -> None:
    config = _config("cist", rho=6.0, tau_min=2.0, tau_max=3.0)
    student = logits[0].clone().requires_grad_()
    softened = soften(config, 0.01 * student, 100 * logits[1], VOCAB)
    assert (softened.tau_s == 2.0).all() and (softened.tau_t == 3.0).all()
    softened.student[:, 0].sum().backward()
    expected = torch.full_like(student, -1 / VOCAB)
    expected[:, 0] += 1
    torch.testing.assert_close(student.grad, 0.01 * expected / 2.0)


def test_equal_logits_in_a_row_give_no_nan() -> None:
    for policy in ("cist", "logit_standardization", "dynamic"):
        student = torch.full((2, VOCAB), 4.0, requires_grad=True)
        term = SoftTerm(_config(policy), VOCAB)
        value = term.values(
            student, torch.full((2, VOCAB), 4.0), torch.zeros(2).long(), BatchSettings()
        )
        value.sum().backward()
        assert value.isfinite().all() and student.grad.isfinite().all()  # type: ignore[union-attr]


@pytest.mark.parametrize("policy", ["cist", "dynamic", "logit_standardization"])
def test_gradient_through_the_temperature_is_the_values(
    logits: tuple[Tensor, Tensor], policy: str
) -> None:
    config = _config(policy)
    weight = soften(config, *logits, VOCAB).weight
    # The teacher's side of `dynamic` also hangs on the student, without gradient: hold it still.
    teacher = soften(config, *logits, VOCAB).teacher

    def soft(student: Tensor) -> Tensor:
        softened = soften(config, student, logits[1], VOCAB)
        p, log_q = teacher.softmax(-1), softened.student.log_softmax(-1)
        return weight * (p * (p.log() - log_q)).sum(-1)

    assert torch.autograd.gradcheck(soft, logits[0].clone().requires_grad_())


@pytest.mark.parametrize("vocab_size", [4096, 4097, 5000])
def test_the_temperature_follows_the_first_of_the_largest_logits(vocab_size: int) -> None:
    """Of a vocabulary that is searched by blocks: at its ends, where blocks meet, with a tie."""
    places = [0, 63, 64, 4095, vocab_size - 1, 70]
    student = torch.zeros(len(places), vocab_size)
    student[range(len(places)), places] = 3.0
    student[-1, [71, 200, vocab_size - 1]] = 3.0
    softened = soften(_config(Policy.CIST, rho=2.0), student, student, vocab_size)
    assert softened.slope is not None and softened.slope.place is not None
    assert softened.slope.place.tolist() == places
    assert softened.student.amax(-1).tolist() == pytest.approx([2.0] * len(places))


def test_detached_temperature_is_a_constant(logits: tuple[Tensor, Tensor]) -> None:
    for policy in ("cist", "dynamic"):
        student = logits[0].clone().requires_grad_()
        config = _config(policy, detach_student_temperature=True)
        softened = soften(config, student, logits[1], VOCAB)
        softened.student[:, 2].sum().backward()
        expected = torch.full_like(student, -1 / VOCAB)
        expected[:, 2] += 1
        torch.testing.assert_close(student.grad, expected / softened.tau_s.unsqueeze(-1))


def test_forward_kl_with_a_softened_teacher_is_ttm(logits: tuple[Tensor, Tensor]) -> None:
    power = 1 / 4.0
    p = logits[1].softmax(-1) ** power
    target, q = p / p.sum(-1, keepdim=True), logits[0].softmax(-1)
    ttm = (target * (target.log() - q.log())).sum(-1)
    labels = torch.zeros(ROWS).long()
    for switch, expected in ((False, ttm), (True, p.sum(-1) * ttm)):
        config = _config("fixed_teacher", tau=4.0, weight_by_power_sum=switch)
        value = SoftTerm(config, VOCAB).values(*logits, labels, BatchSettings())
        torch.testing.assert_close(value, expected)


def test_adaptive_temperature_is_low_for_hard_positions() -> None:
    difficulty = torch.tensor([0.1, 0.2, 0.4])
    config = _config("token_adaptive", tau=2.0, adaptivity=0.5)
    tau = adaptive_temperature(config, difficulty)
    expected = 2.0 * torch.exp(-0.5 * torch.tanh(torch.log(difficulty / 0.2)))
    torch.testing.assert_close(tau, expected)
    assert tau[0] > 2.0 > tau[2]
    still = _config("token_adaptive", tau=2.0, adaptivity=0.0)
    assert (adaptive_temperature(still, difficulty) == 2.0).all()
    assert adaptive_temperature(config, torch.tensor([0.0, 0.0, 0.3])).isfinite().all()


def test_difficulty_is_hellingers_distance(logits: tuple[Tensor, Tensor]) -> None:
    q, p = logits[0].softmax(-1), logits[1].softmax(-1)
    expected = (p.sqrt() - q.sqrt()).norm(dim=-1) / 2**0.5
    found = hellinger(*logits)
    torch.testing.assert_close(found, expected)
    assert hellinger(logits[0], logits[0]).max() < 1e-7


def test_soften_refuses_padding_columns(logits: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"vocabulary's 12 columns, but got 14 and 12"):
        soften(TrialConfig(), torch.nn.functional.pad(logits[0], (0, 2)), logits[1], VOCAB)


def test_every_row_goes_with_a_policy_and_the_learned_ones_with_few() -> None:
    for policy in (Policy.CURRICULUM, Policy.DYNAMIC, Policy.TOKEN_ADAPTIVE):
        rows = {name for name, row in DIVERGENCES.items() if policy in row.policies}
        assert rows == {"forward_kl", "reverse_kl", "generalized_jsd"}
    assert all(row.policies for row in DIVERGENCES.values())
    assert DIVERGENCES["centred_mse"].policies == {Policy.NONE}
