"""What every divergence is held to, as a function: the tests run it on the table, and
`kd-sweep check-loss` on a function of the user's own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainers.losses.divergences import in_float
from trainers.trial.traits import DivergenceTraits

# As large as top-k losses want it, and as small as differences over every column allow.
NUM_ROWS, VOCAB = 6, 128
EXTREME = 80.0
EPSILON = 1e-6


@dataclass(frozen=True)
class ContractCheck:
    """The outcome of one check: its name, whether it holds, whether a divergence must meet it (the
    others are properties that most have), and what was seen where it does not hold."""

    check: str
    holds: bool
    required: bool
    detail: str


def check(
    function: Callable[..., Tensor],
    parameters: Mapping[str, Any] | None = None,
    traits: DivergenceTraits | None = None,
    *,
    required_only: bool = False,
) -> list[ContractCheck]:
    """Returns the outcome of each check of `function(student_logits=, teacher_logits=,
    **parameters)`.

    traits: what it promises. Without them nothing is promised, the logits are as a sweep passes
    them, in float32 or wider, and all properties are checked, or with `required_only` what every
    divergence must keep. An exception inside the function is a check that does not hold.
    """
    row = partial(function, **dict(parameters or {}))
    if traits is None:
        row = partial(_with_wide_logits, row)
    promised = traits or DivergenceTraits("", nonnegative=False, zero_at_equality=False)
    checks: list[tuple[str, Callable[[Row], str], bool]] = [
        ("one value a position, float64 kept", _shape, True),
        ("finite for logits of ±80 in bfloat16", _extremes, True),
        ("a gradient to the student", _student_gradient, True),
        ("no gradient to the teacher", _teacher_gradient, True),
        ("logits are left as they were", _untouched, True),
        ("a position's value is its own", _row_local, promised.row_local),
        ("order of the vocabulary does not matter", _permutation, True),
        ("never negative", _nonnegative, promised.nonnegative),
        ("zero, without gradient, at equality", _equality, promised.zero_at_equality),
        (
            "constants added to logits do not matter",
            _shift,
            traits is not None and promised.shift_invariant,
        ),
        ("gradient is the value's", _gradient, traits is not None and not promised.detached),
        ("float32 agrees with float64", _precision, True),
    ]
    return [
        _outcome(name, test, row, required)
        for name, test, required in checks
        if required or not required_only
    ]


Row = Callable[..., Tensor]


def _outcome(name: str, test: Callable[[Row], str], row: Row, required: bool) -> ContractCheck:
    try:
        detail = test(row)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's function may raise anything, and may exit
        shape = f"[{NUM_ROWS}, {VOCAB}]"
        detail = f"raised {type(error).__name__}: {error} (given logits of at most {shape})"
    return ContractCheck(name, not detail, required, detail)


def _with_wide_logits(row: Row, *, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return row(student_logits=in_float(student_logits), teacher_logits=in_float(teacher_logits))


def _logits(scale: float = 2.0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (2, NUM_ROWS, VOCAB)
    student, teacher = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    return student.to(dtype), teacher.to(dtype)


def _value(row: Row, student: Tensor, teacher: Tensor) -> Tensor:
    return row(student_logits=student, teacher_logits=teacher)


def _slope(row: Row, student: Tensor, teacher: Tensor) -> Tensor:
    leaf = student.clone().requires_grad_()
    value = _value(row, leaf, teacher)
    if not value.requires_grad:
        return torch.zeros_like(leaf)
    slope = torch.autograd.grad(value.sum(), leaf, allow_unused=True)[0]
    return torch.zeros_like(leaf) if slope is None else slope


def _shape(row: Row) -> str:
    for given, wanted in (
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.bfloat16, torch.float32),
    ):
        value = _value(row, *_logits(dtype=given))
        if value.shape != (NUM_ROWS,) or value.dtype != wanted:
            return (
                f"{given} logits [{NUM_ROWS}, {VOCAB}] must give {wanted} [{NUM_ROWS}], "
                f"but got {value.dtype} {list(value.shape)}"
            )
    return ""


def _extremes(row: Row) -> str:
    student, teacher = (logits.sign() * EXTREME for logits in _logits(dtype=torch.bfloat16))
    value, slope = _value(row, student, teacher), _slope(row, student, teacher)
    if not bool(value.isfinite().all()):
        return f"values {value.tolist()}"
    return "" if bool(slope.isfinite().all()) else "gradient with NaN or infinite entries"


def _student_gradient(row: Row) -> str:
    student, teacher = _logits()
    if bool(_slope(row, student, teacher).any()):
        return ""
    if not _value(row, student.requires_grad_(), teacher).requires_grad:
        return "the value is cut from the student's logits; no detach, no_grad or item() on the way"
    return "it is 0 everywhere although student and teacher differ: nothing would be learned"


def _teacher_gradient(row: Row) -> str:
    student, teacher = _logits()
    student.requires_grad_()
    teacher.requires_grad_()
    value = _value(row, student, teacher)
    if not value.requires_grad:
        return ""
    value.sum().backward()  # type: ignore[no-untyped-call]
    reached = teacher.grad is not None and bool(teacher.grad.any())
    return "the teacher's logits got a gradient; detach them" if reached else ""


def _untouched(row: Row) -> str:
    student, teacher = _logits()
    before = student.clone(), teacher.clone()
    _value(row, student, teacher)
    for name, logits, was in zip(("student", "teacher"), (student, teacher), before, strict=True):
        if not torch.equal(logits, was):
            return f"the {name}'s logits were changed in place; work on a copy"
    return ""


def _row_local(row: Row) -> str:
    student, teacher = _logits()
    alone = torch.cat(
        [_value(row, student[i : i + 1], teacher[i : i + 1]) for i in range(NUM_ROWS)]
    )
    return _close(_value(row, student, teacher), alone, "together and alone")


def _permutation(row: Row) -> str:
    student, teacher = _logits()
    order = torch.randperm(VOCAB, generator=torch.Generator().manual_seed(1))
    return _close(
        _value(row, student, teacher),
        _value(row, student[:, order], teacher[:, order]),
        "in either order",
    )


def _nonnegative(row: Row) -> str:
    lowest = float(_value(row, *_logits()).min())
    return "" if lowest >= -EPSILON else f"a value of {lowest:.6g}"


def _equality(row: Row) -> str:
    student, _ = _logits()
    value, slope = _value(row, student, student.clone()), _slope(row, student, student.clone())
    largest = float(value.detach().abs().max())
    if largest > EPSILON:
        return f"a value of {largest:.6g} where student and teacher are equal"
    steepest = float(slope.abs().max())
    return "" if steepest <= EPSILON else f"a gradient of {steepest:.6g} at equality"


def _shift(row: Row) -> str:
    student, teacher = _logits()
    shifted = _value(row, student + 3.0, teacher - 5.0)
    return _close(_value(row, student, teacher), shifted, "before and after")


def _gradient(row: Row) -> str:
    student, teacher = _logits()
    slope = _slope(row, student, teacher)
    step = 1e-5
    numeric = torch.zeros_like(slope)
    for column in range(VOCAB):
        moved = torch.zeros_like(student)
        moved[:, column] = step
        ahead, behind = (_value(row, student + sign * moved, teacher) for sign in (1, -1))
        numeric[:, column] = (ahead - behind) / (2 * step)
    return _close(slope, numeric, "by autograd and by differences", tolerance=1e-5)


def _precision(row: Row) -> str:
    student, teacher = _logits(dtype=torch.float32)
    wide = _value(row, student.double(), teacher.double())
    return _close(_value(row, student, teacher).double(), wide, "in either", tolerance=1e-4)


def _close(first: Tensor, second: Tensor, what: str, tolerance: float = EPSILON) -> str:
    gap = float((first - second).abs().max().detach())
    size = 1 + float(second.abs().max().detach())
    return "" if gap <= tolerance * size else f"differs by {gap:.3g} {what}"
