"""The divergences and temperature policies by name, with what each needs and promises; no torch.

`trainers.config` checks a trial against these tables, `trainers.losses` holds the functions, and the
contract tests follow the traits. A row here and a function there is all that a new divergence takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Policy(StrEnum):
    """How logits are softened in the soft loss."""

    FIXED = "fixed"
    FIXED_TEACHER = "fixed_teacher"
    CIST = "cist"


class Scaling(StrEnum):
    """Factor on a position's soft loss; tau_t and tau_s are the teacher's and the student's temperature."""

    NONE = "none"
    TAU = "tau"
    TAU_SQUARED = "tau_squared"
    TEACHER_STUDENT = "teacher_student"
    TEACHER_SQUARED = "teacher_squared"


@dataclass(frozen=True)
class Parameter:
    """A number that belongs to a divergence or policy: its default and its closed range."""

    default: float | bool | str | None
    low: float | None = None
    high: float | None = None
    search_low: float | None = None
    search_high: float | None = None


@dataclass(frozen=True)
class DivergenceTraits:
    """What a divergence promises; the contract tests run exactly what is declared here."""

    summary: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    policies: frozenset[Policy] = frozenset(Policy)
    nonnegative: bool = True
    zero_at_equality: bool = True
    shift_invariant: bool = True
    row_local: bool = True
    detached: bool = False
    needs_labels: bool = False


@dataclass(frozen=True)
class PolicyTraits:
    """What a policy needs, which scalings make sense for it, and whether it hides the logit scale."""

    summary: str
    parameters: Mapping[str, Parameter]
    default_scaling: Scaling
    scalings: frozenset[Scaling]
    scale_free: bool = False


DIVERGENCES: Mapping[str, DivergenceTraits] = {
    "forward_kl": DivergenceTraits("KL(p‖q): covers every mode of the teacher"),
    "reverse_kl": DivergenceTraits("KL(q‖p): seeks the teacher's largest modes"),
    "generalized_jsd": DivergenceTraits(
        "beta KL(p‖m) + (1-beta) KL(q‖m), m = beta p + (1-beta) q; beta 0 is forward KL, 1 reverse KL",
        parameters={"beta": Parameter(0.5, 0.0, 1.0, search_low=0.05, search_high=0.95)},
    ),
}

POLICIES: Mapping[Policy, PolicyTraits] = {
    Policy.FIXED: PolicyTraits(
        "one temperature tau for teacher and student",
        parameters={"tau": Parameter(1.0, 1e-3, 1e3)},
        default_scaling=Scaling.TAU_SQUARED,
        scalings=frozenset({Scaling.NONE, Scaling.TAU, Scaling.TAU_SQUARED}),
    ),
    Policy.FIXED_TEACHER: PolicyTraits(
        "tau on the teacher alone, the student stays at 1",
        parameters={"tau": Parameter(1.0, 1e-3, 1e3)},
        default_scaling=Scaling.NONE,
        scalings=frozenset({Scaling.NONE}),
    ),
    Policy.CIST: PolicyTraits(
        "per position: temperature = largest centred logit / rho, for teacher and student apart",
        parameters={
            "rho": Parameter(None, 1e-3, 1e4),
            "rho_per_log_vocab": Parameter(None, 1e-3, 1e3),
            "detach_student_temperature": Parameter(False),
        },
        default_scaling=Scaling.TEACHER_STUDENT,
        scalings=frozenset({Scaling.NONE, Scaling.TEACHER_STUDENT, Scaling.TEACHER_SQUARED}),
        scale_free=True,
    ),
}
