"""Every divergence keeps what its traits declare, for each of its parameters' settings."""

import pytest
import torch

from trainers.losses import DIVERGENCE_FUNCTIONS, LABELLED_TERMS, POLICY_FUNCTIONS
from trainers.losses.divergences import MIRRORS
from trainers.losses.fused.closed_form import CLOSED_FORMS
from trainers.losses.own.contract import check
from trainers.trial.catalogue import DIVERGENCES, POLICIES
from trainers.trial.traits import MixtureDivergence, MixtureOrder, Policy, Weighting

SETTINGS = [(name, {}) for name in DIVERGENCE_FUNCTIONS] + [
    ("jeffreys", {"weight": 0.0}),
    ("jeffreys", {"weight": 0.9}),
    ("generalized_jsd", {"beta": 0.0}),
    ("generalized_jsd", {"beta": 0.05}),
    ("generalized_jsd", {"beta": 0.9, "unit_curvature": True}),
    ("generalized_jsd", {"beta": 1.0}),
    ("skew_forward_kl", {"alpha": 0.0}),
    ("skew_forward_kl", {"alpha": 0.9}),
    ("skew_reverse_kl", {"alpha": 0.9}),
    ("adaptive_kl", {"head_mass": 0.0}),
    ("adaptive_kl", {"head_mass": 0.99}),
    ("alpha_beta", {"alpha": 0.0, "beta": 0.5}),
    ("alpha_beta", {"alpha": 0.5, "beta": 0.0}),
    ("alpha_beta", {"alpha": 0.0, "beta": 0.0}),
    ("alpha_beta", {"alpha": 1.0, "beta": 1.0}),
    ("concrete_score", {"weighting": Weighting.UNIFORM_STUDENT}),
    ("concrete_score", {"weighting": "teacher_student"}),
    ("concrete_score", {"weighting": "teacher_teacher"}),
    ("entropy_switched", {"entropy_weight": 10.0}),
    ("entropy_aware", {"entropy_threshold": 3.0}),
    *[("alpha_mixture", {"alpha": a}) for a in (-100.0, -5.0, 0.9999, 1.0, 1.0001, 3.0, 100.0)],
    *[("alpha_mixture", {"mixture_weight": w}) for w in (0.01, 0.99)],
    *[
        ("alpha_mixture", {"alpha": -5.0, "mixture_order": order, "mixture_divergence": inner})
        for order in MixtureOrder
        for inner in MixtureDivergence
    ],
]


@pytest.mark.parametrize(("name", "parameters"), SETTINGS, ids=str)
def test_keeps_what_its_traits_declare(name: str, parameters: dict[str, object]) -> None:
    checks = check(DIVERGENCE_FUNCTIONS[name], parameters, DIVERGENCES[name])
    broken = [one for one in checks if one.required and not one.holds]
    assert not broken
    assert sum(one.required for one in checks) >= 9


def test_tables_name_the_same_rows_as_the_catalogue() -> None:
    assert set(DIVERGENCE_FUNCTIONS) | set(LABELLED_TERMS) == set(DIVERGENCES)
    assert not set(DIVERGENCE_FUNCTIONS) & set(LABELLED_TERMS)
    assert set(POLICY_FUNCTIONS) == set(POLICIES) == set(Policy)


def test_rows_that_go_with_a_learned_temperature_have_its_gradient() -> None:
    """In the plain form by their mirror, in the fused one in closed form."""
    learned = {policy for policy, row in POLICIES.items() if row.learned}
    names = {name for name, row in DIVERGENCES.items() if row.policies & learned}
    assert names == set(MIRRORS) and names <= set(CLOSED_FORMS)


@pytest.mark.parametrize("name", sorted(set(DIVERGENCE_FUNCTIONS)))
def test_defaults_of_function_and_catalogue_are_one(name: str) -> None:
    student, teacher = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0))
    defaults = {key: value.default for key, value in DIVERGENCES[name].parameters.items()}
    row = DIVERGENCE_FUNCTIONS[name]
    without = row(student_logits=student, teacher_logits=teacher)
    assert torch.equal(without, row(student_logits=student, teacher_logits=teacher, **defaults))


ALIVE = {
    "weight": (0.2, 0.7),
    "beta": (0.3, 0.6),
    "unit_curvature": (False, True),
    "alpha": (0.2, 0.6),
    "head_mass": (0.2, 0.9),
    "entropy_weight": (2.0, 5.0),
    "forward_weight": (0.5, 2.0),
    "entropy_threshold": (0.1, 3.0),
    "mixture_weight": (0.2, 0.7),
    "mixture_order": tuple(MixtureOrder)[:2],
    "mixture_divergence": tuple(MixtureDivergence),
}


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        (name, parameter)
        for name in DIVERGENCE_FUNCTIONS
        for parameter in DIVERGENCES[name].parameters
        if parameter in ALIVE
    ],
)
def test_every_parameter_changes_the_value(name: str, parameter: str) -> None:
    student, teacher = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0))
    first, second = (
        DIVERGENCE_FUNCTIONS[name](
            student_logits=student, teacher_logits=teacher, **{parameter: value}
        )
        for value in ALIVE[parameter]
    )
    assert not torch.allclose(first, second)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("skew_reverse_kl", ({}, {"detach_mixture": True})),
        ("concrete_score", ({}, {"weighting": "uniform_student"})),
        ("concrete_score", ({"weighting": "uniform_student"}, {"weighting": "teacher_student"})),
    ],
)
def test_every_switch_changes_the_gradient(
    name: str, parameters: tuple[dict[str, object], dict[str, object]]
) -> None:
    student, teacher = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0))
    slopes = []
    for setting in parameters:
        leaf = student.clone().requires_grad_()
        DIVERGENCE_FUNCTIONS[name](
            student_logits=leaf, teacher_logits=teacher, **setting
        ).sum().backward()
        slopes.append(leaf.grad)
    assert not torch.allclose(slopes[0], slopes[1])


def _wrong_width(student_logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    return (student_logits - teacher_logits).square()


def _teacher_in_the_graph(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor
) -> torch.Tensor:
    gap = (torch.log_softmax(student_logits.float(), -1) - teacher_logits.log_softmax(-1)).float()
    return gap.square().sum(-1)


def _over_the_batch(student_logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    student, teacher = (
        x if x.dtype == torch.float64 else x.float()
        for x in (student_logits, teacher_logits.detach())
    )
    gap = (student.log_softmax(-1) - teacher.log_softmax(-1)).square().sum(-1)
    return gap / gap.detach().mean()


@pytest.mark.parametrize(
    ("function", "broken"),
    [
        (_wrong_width, "one value a position, float64 kept"),
        (_teacher_in_the_graph, "no gradient to the teacher"),
        (_over_the_batch, "a position's value is its own"),
        (lambda student_logits: student_logits.sum(-1), "one value a position, float64 kept"),
    ],
)
def test_check_finds_what_is_wrong_with_a_function(function: object, broken: str) -> None:
    found = {finding.check: finding for finding in check(function)}  # type: ignore[arg-type]
    assert not found[broken].holds
    assert found[broken].required
    assert found[broken].detail
