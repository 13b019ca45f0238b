"""What the contract's checks see in functions that break it in one way each."""

import sys

import pytest
import torch
from torch import Tensor

from trainers.losses.own.contract import VOCAB, ContractCheck, Row, check
from trainers.losses.passes import BatchSettings
from trainers.losses.soft_term import SoftTerm
from trainers.trial.config import TrialConfig

GRADIENT = "a gradient to the student"


def kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Of whatever dtype the logits are in: a sweep's are wide enough."""
    student = student_logits.log_softmax(-1)
    teacher = teacher_logits.detach().log_softmax(-1)
    return (teacher.exp() * (teacher - student)).sum(-1)


def zero(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return 0 * kl(student_logits, teacher_logits)


def cut(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return kl(student_logits, teacher_logits).detach() + 0 * student_logits.float().sum()


@torch.no_grad()  # type: ignore[untyped-decorator]
def without_grad(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return kl(student_logits, teacher_logits)


def in_place(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    teacher = teacher_logits.detach()
    teacher -= teacher.mean(-1, keepdim=True)
    return kl(student_logits, teacher)


def top(student_logits: Tensor, teacher_logits: Tensor, k: int = 50) -> Tensor:
    teacher, index = teacher_logits.detach().topk(k, -1)
    return kl(student_logits.gather(-1, index), teacher)


def mean(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return kl(student_logits, teacher_logits).mean()


def leaves(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    sys.exit(3)


def broken(function: Row, **parameters: object) -> dict[str, str]:
    found: list[ContractCheck] = check(function, parameters, required_only=True)
    return {one.check: one.detail for one in found if not one.holds}


def test_a_sound_function_breaks_nothing() -> None:
    assert broken(kl) == broken(top) == {}


@pytest.mark.parametrize(
    ("function", "name", "detail"),
    [
        (zero, GRADIENT, "it is 0 everywhere"),
        (cut, GRADIENT, "it is 0 everywhere"),
        (without_grad, GRADIENT, "the value is cut from the student's logits"),
        (in_place, "logits are left as they were", "the teacher's logits were changed in place"),
    ],
)
def test_each_fault_has_its_own_check(function: Row, name: str, detail: str) -> None:
    found = broken(function)
    assert list(found) == [name]
    assert detail in found[name]


def test_an_error_inside_the_function_is_told_with_the_shape_of_the_logits() -> None:
    found = broken(top, k=VOCAB + 1)
    assert f"out of range (given logits of at most [6, {VOCAB}])" in found[GRADIENT]


def test_a_function_that_exits_is_told() -> None:
    assert "raised SystemExit: 3" in broken(leaves)[GRADIENT]


def test_training_refuses_a_mean_over_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "losses_with_mean", sys.modules[__name__])
    student, teacher = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(3).long()
    own = SoftTerm(TrialConfig(divergence="losses_with_mean:kl"), 5)
    assert own.values(student, teacher, labels, BatchSettings()).shape == (3,)
    own = SoftTerm(TrialConfig(divergence="losses_with_mean:mean"), 5)
    with pytest.raises(ValueError, match=r"one value a position .* \[3\] .* but got \[\]\. Sum"):
        own.values(student, teacher, labels, BatchSettings())
