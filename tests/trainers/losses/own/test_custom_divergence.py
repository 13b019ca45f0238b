"""A divergence of the user's own: `module:function`."""

from pathlib import Path

import pytest
import torch

from trainers.losses import DistillationLoss
from trainers.losses.own.load import load
from trainers.losses.passes import BatchSettings
from trainers.losses.soft_term import SoftTerm
from trainers.trial.config import TrialConfig

SOURCE = """
import torch

def squared(*, student_logits, teacher_logits, alpha=2.0):
    gap = student_logits.log_softmax(-1) - teacher_logits.detach().log_softmax(-1)
    return alpha * gap.square().mean(-1)

def needs_more(*, student_logits, teacher_logits, strength):
    return student_logits.sum(-1)

def by_place(student_logits, teacher_logits, /):
    return student_logits.sum(-1)

def open_to_all(*, student_logits, teacher_logits, **more):
    return squared(student_logits=student_logits, teacher_logits=teacher_logits, **more)

def one_sided(student_logits):
    return student_logits.sum(-1)

number = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_losses.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_is_called_with_softened_logits_and_the_parameters_that_are_set() -> None:
    student, teacher = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(3).long()
    function = load("my_own_losses:squared")
    for fields, alpha in (({}, 2.0), ({"alpha": 0.5}, 0.5)):
        config = TrialConfig(divergence="my_own_losses:squared", tau=2.0, **fields)
        value = SoftTerm(config, 5).values(student, teacher, labels, BatchSettings())
        expected = 4 * function(student_logits=student / 2, teacher_logits=teacher / 2, alpha=alpha)
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_here:f", r"module 'no_such_module_here' must be importable, but got"),
        ("my_own_losses:squarde", r"must be a function of 'my_own_losses'.*'squared'"),
        ("my_own_losses:number", r"'number' must be a function .* but got 3"),
        ("my_own_losses:one_sided", r"but got a function without teacher_logits"),
        ("my_own_losses:by_place", r"without student_logits and teacher_logits"),
        ("my_own_losses:needs_more", r"strength must have a default or be set, but got none"),
    ],
)
def test_what_cannot_be_used_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillationLoss(TrialConfig(divergence=name), 5)


def test_a_function_may_take_whatever_is_set() -> None:
    config = TrialConfig(divergence="my_own_losses:open_to_all", alpha=0.3)
    assert SoftTerm(config, 5).parameters == {"alpha": 0.3}


def test_a_parameter_that_the_function_does_not_take_is_refused() -> None:
    config = TrialConfig(divergence="my_own_losses:squared", beta=0.3)
    with pytest.raises(ValueError, match=r"beta must be a parameter of .* but got beta=0.3"):
        DistillationLoss(config, 5)
