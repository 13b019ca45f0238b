"""The loss as a module: what it refuses, how sums of parts add up, and that each field does one
thing."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from trainers.losses import DistillationLoss, LossContext, LossSums
from trainers.signal import OutputHead, TeacherSignal
from trainers.trial.catalogue import DIVERGENCES, OPTIONS, POLICIES
from trainers.trial.config import TrialConfig
from trainers.trial.rules import parameter_owners
from trainers.trial.traits import Policy

NUM, VOCAB, WIDTH = 24, 19, 6
CONTEXT = LossContext(sequence_ids=torch.arange(NUM) // 5, step=4, num_steps=10)


class Inputs:
    """A batch whose positions can be taken apart."""

    def __init__(self, vocab: int = VOCAB) -> None:
        generator = torch.Generator().manual_seed(1)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.hidden, self.weight = draw(NUM, WIDTH), draw(vocab, WIDTH)
        self.teacher, self.teacher_weight = draw(NUM, 9), draw(vocab, 9)
        self.labels = torch.randint(vocab, (NUM,), generator=generator)

    def run(self, loss: DistillationLoss, rows: Tensor, leaf: Tensor) -> LossSums:
        signal = TeacherSignal(self.teacher[rows], OutputHead(self.teacher_weight))
        context = replace(CONTEXT, sequence_ids=CONTEXT.sequence_ids[rows])  # type: ignore[index]
        return loss(self.hidden[rows], OutputHead(leaf), self.labels[rows], signal, context)


ROW_LOCAL = [
    (name, policy)
    for name, row in DIVERGENCES.items()
    for policy in sorted(row.policies)
    if row.row_local and POLICIES[policy].row_local
]


@pytest.mark.parametrize(("name", "policy"), ROW_LOCAL)
def test_any_split_of_a_batch_gives_the_same_sums_and_gradients(name: str, policy: str) -> None:
    inputs = Inputs()
    loss = DistillationLoss(TrialConfig(divergence=name, policy=policy), VOCAB, fused=True).double()
    whole = inputs.weight.clone().requires_grad_()
    sums = inputs.run(loss, torch.arange(NUM), whole)
    (sums.total / NUM).backward()
    order = torch.randperm(NUM, generator=torch.Generator().manual_seed(2))
    for parts in (order.split(12), order.split(7), (order[:1], order[1:1], order[1:])):
        leaf = inputs.weight.clone().requires_grad_()
        total = 0.0
        for part in parts:  # micro-batches and ranks alike: sums over the one global count
            found = inputs.run(loss, part, leaf)
            (found.total / NUM).backward()
            total += found.total.item()
        assert total == pytest.approx(sums.total.item(), rel=1e-10)
        torch.testing.assert_close(leaf.grad, whole.grad, rtol=1e-9, atol=1e-14)


def test_rows_that_are_not_local_say_so() -> None:
    assert [name for name, row in DIVERGENCES.items() if not row.row_local] == [
        "token_scaled",
        "generalized_kl",
        "correlation",
        "multi_level",
    ]
    apart = [policy for policy, row in POLICIES.items() if not row.row_local]
    assert apart == [Policy.TOKEN_ADAPTIVE]


def test_token_scaled_is_local_to_sequences() -> None:
    inputs = Inputs()
    loss = DistillationLoss(TrialConfig(divergence="token_scaled"), VOCAB, fused=True)
    sums = inputs.run(loss, torch.arange(NUM), inputs.weight)
    parts = [torch.arange(15), torch.arange(15, NUM)]  # between sequences
    halves = [inputs.run(loss, part, inputs.weight).total for part in parts]
    torch.testing.assert_close(sum(halves), sums.total)


# A second value of each parameter of the loss, where it makes a difference.
OTHER = {
    "tau": 3.0,
    "rho": 4.0,
    "rho_per_log_vocab": 1.7,
    "detach_student_temperature": True,
    "weight_by_power_sum": True,
    "tau_min": 50.0,
    "tau_max": 0.01,
    "curriculum_range": 5.0,
    "curriculum_ramp": 0.7,
    "look_ahead_range": 3.0,
    "look_ahead_step": 0.5,
    "adaptivity": 2.0,
    "beta": 0.8,
    "unit_curvature": True,
    "alpha": 0.6,
    "detach_mixture": True,
    "skew_anchor": 0.2,
    "weight": 0.9,
    "head_mass": 0.9,
    "entropy_weight": 9.0,
    "weighting": "uniform_student",
    "target_weight": 3.0,
    "non_target_weight": 2.0,
    "gamma": 4.0,
    "token_temperature": 0.3,
    "mix_start": 0.7,
    "mix_end": 0.5,
    "mix_rate": 0.3,
    "target_tau": 3.0,
    "cross_entropy_weight": 2.0,
    "pair_weight": 3.0,
    "pair_tau": 2.0,
    "pair_power": 0.9,
    "forward_weight": 3.0,
    "reverse_weight": 3.0,
    "entropy_threshold": 2.7,
    "mixture_weight": 0.2,
    "mixture_order": "mixture_student",
    "mixture_divergence": "alpha_beta",
    "entropy_min": 0.55,
    "entropy_max": 0.5,
    "outliers": "hard_target",
    "between_weight": 2.0,
    "within_weight": 3.0,
    "class_weight": 2.0,
    "batch_weight": 3.0,
    "masks": "as_published",
    "focus_rate": 0.8,
    "focus_tolerance": 0.95,
    "focus_decay": 0.9,
    "focus_warmup": 0.9,
    "focus_least": 0.9,
}
FOCUS = {"focus_rate": 0.3, "focus_decay": 0.5, "focus_tolerance": 0.05}
BASE = {
    "entropy_threshold": {"forward_weight": 1.0},
    **{name: FOCUS for name in OPTIONS["focus"].parameters},
    "entropy_gated": {"entropy_max": 0.6},
    "cist": {"rho": 3.0},
    "fixed_teacher": {"tau": 2.0},
    "fixed": {"tau": 2.0},
}


def _owned() -> list[tuple[str, str, str]]:
    """(divergence, policy, parameter): each parameter with each row that has it."""
    cases = []
    for name, row in DIVERGENCES.items():
        policy = min(row.policies - {Policy.FIXED}, default=Policy.NONE)
        policy = Policy.FIXED if Policy.FIXED in row.policies else policy
        cases += [(name, str(policy), parameter) for parameter in row.parameters]
    for option in OPTIONS.values():
        cases += [("forward_kl", "fixed", parameter) for parameter in option.parameters]
    for policy, traits in POLICIES.items():
        cases += [("forward_kl", str(policy), parameter) for parameter in traits.parameters]
    return cases


def _outcome(config: TrialConfig) -> tuple[Tensor, ...]:
    inputs = Inputs()
    loss = DistillationLoss(config, VOCAB, fused=True).double()
    for step, soft_loss in ((4, 2.0), (5, 1.0), (6, 0.2)):
        loss.finish_step(soft_loss, step=step, num_steps=10)
    leaf = inputs.weight.clone().requires_grad_()
    sums = inputs.run(loss, torch.arange(NUM), leaf)
    sums.total.backward()
    assert leaf.grad is not None
    learned = [p.grad for p in loss.parameters() if p.grad is not None]
    return sums.soft, leaf.grad, *learned


@pytest.mark.parametrize(("name", "policy", "parameter"), _owned())
def test_every_parameter_changes_the_loss(name: str, policy: str, parameter: str) -> None:
    given = dict(BASE.get(policy, {}))
    if parameter == "rho_per_log_vocab":
        given = {}
    given |= BASE.get(name, {}) | BASE.get(parameter, {})
    config = TrialConfig(divergence=name, policy=policy, **given)
    other = TrialConfig(divergence=name, policy=policy, **(given | {parameter: OTHER[parameter]}))
    first, second = _outcome(config), _outcome(other)
    assert any(not torch.allclose(a, b) for a, b in zip(first, second, strict=True))


def test_every_parameter_is_a_field_and_has_a_second_value() -> None:
    owned = set(parameter_owners())
    assert owned <= set(TrialConfig.model_fields)
    assert owned == set(OTHER)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("generation_temperature", 0.3),
        ("generation_seeds", (1, 2)),
        ("learning_rate", 0.1),
        ("seed", 7),
        ("batch_size", 3),
        ("max_new_tokens", 5),
    ],
)
def test_fields_of_other_things_leave_the_loss_alone(field: str, value: object) -> None:
    first, second = _outcome(TrialConfig(tau=2.0)), _outcome(TrialConfig(tau=2.0, **{field: value}))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("fused", [False, True])
def test_tau_changes_the_soft_loss_and_never_the_hard_one(fused: bool) -> None:
    inputs = Inputs()
    sums = [
        inputs.run(
            DistillationLoss(TrialConfig(tau=tau), VOCAB, fused=fused),
            torch.arange(NUM),
            inputs.weight,
        )
        for tau in (1.0, 4.0)
    ]
    assert torch.equal(sums[0].hard, sums[1].hard)
    assert not torch.isclose(sums[0].soft, sums[1].soft)


def test_vocabularies_that_differ_are_refused_with_both_sizes() -> None:
    inputs = Inputs()
    loss = DistillationLoss(TrialConfig(), VOCAB)
    signal = TeacherSignal(inputs.teacher, OutputHead(inputs.teacher_weight[:-2]))
    with pytest.raises(ValueError, match=r"vocabulary's 19 entries, but got 19 and 17"):
        loss(inputs.hidden, OutputHead(inputs.weight), inputs.labels, signal, CONTEXT)


def test_numbers_of_positions_that_differ_are_refused() -> None:
    inputs = Inputs()
    loss = DistillationLoss(TrialConfig(), VOCAB)
    signal = TeacherSignal(inputs.teacher[:-1], OutputHead(inputs.teacher_weight))
    with pytest.raises(ValueError, match=r"as many positions each, but got 24, 24 and 23"):
        loss(inputs.hidden, OutputHead(inputs.weight), inputs.labels, signal, CONTEXT)


@pytest.mark.parametrize("fused", [False, True])
def test_labels_that_are_none_are_refused(fused: bool) -> None:
    inputs = Inputs()
    loss = DistillationLoss(TrialConfig(), VOCAB, fused=fused)
    signal = TeacherSignal(inputs.teacher, OutputHead(inputs.teacher_weight))
    given = inputs.hidden, OutputHead(inputs.weight)
    with pytest.raises(ValueError, match="labels must be int64, but got torch.int32"):
        loss(*given, inputs.labels.int(), signal, CONTEXT)
    with pytest.raises((IndexError, RuntimeError), match=r"-100 is out of bounds"):
        loss(*given, inputs.labels.fill_(-100), signal, CONTEXT)


def test_no_gradient_reaches_the_teacher() -> None:
    inputs = Inputs()
    weight = inputs.teacher_weight.clone().requires_grad_()
    hidden = inputs.hidden.clone().requires_grad_()
    for fused in (False, True):
        loss = DistillationLoss(TrialConfig(policy="dynamic"), VOCAB, fused=fused)
        signal = TeacherSignal(inputs.teacher, OutputHead(weight))
        sums = loss(hidden, OutputHead(inputs.weight), inputs.labels, signal, CONTEXT)
        sums.total.backward()
        assert weight.grad is None


@pytest.mark.parametrize(
    "policy", ["fixed", "cist", "curriculum", "curriculum_instance", "token_adaptive", "look_ahead"]
)
def test_softened_shows_what_the_loss_softens(policy: str) -> None:
    inputs = Inputs()
    loss = DistillationLoss(TrialConfig(policy=policy), VOCAB).double()
    student, teacher = inputs.hidden @ inputs.weight.T, inputs.teacher @ inputs.teacher_weight.T
    softened = loss.softened(student, teacher)
    p, q = softened.teacher.softmax(-1), softened.student.softmax(-1)
    soft = (softened.weight * (p * (p / q).log()).sum(-1)).sum()
    torch.testing.assert_close(soft, inputs.run(loss, torch.arange(NUM), inputs.weight).soft)
    assert not softened.student.requires_grad
