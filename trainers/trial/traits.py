"""What a divergence or temperature policy needs and guarantees, and the words for it; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Policy(StrEnum):
    """How logits are softened in the soft loss."""

    NONE = "none"
    FIXED = "fixed"
    FIXED_TEACHER = "fixed_teacher"
    CIST = "cist"
    LOGIT_STANDARDIZATION = "logit_standardization"
    CURRICULUM = "curriculum"
    CURRICULUM_INSTANCE = "curriculum_instance"
    DYNAMIC = "dynamic"
    TOKEN_ADAPTIVE = "token_adaptive"
    LOOK_AHEAD = "look_ahead"


class Scaling(StrEnum):
    """Factor on a position's soft loss, from the teacher's tau_t and the student's tau_s."""

    NONE = "none"
    TAU = "tau"
    TAU_SQUARED = "tau_squared"
    TEACHER_STUDENT = "teacher_student"
    TEACHER_SQUARED = "teacher_squared"


class Weighting(StrEnum):
    """The two weights over the vocabulary in concrete score's sum over pairs of entries."""

    STUDENT = "student"
    UNIFORM_STUDENT = "uniform_student"
    TEACHER_STUDENT = "teacher_student"
    TEACHER_TEACHER = "teacher_teacher"


class MixtureOrder(StrEnum):
    """Which two distributions alpha_mixture compares, the first named first."""

    TEACHER_MIXTURE = "teacher_mixture"
    STUDENT_MIXTURE = "student_mixture"
    MIXTURE_TEACHER = "mixture_teacher"
    MIXTURE_STUDENT = "mixture_student"

    @property
    def has_student(self) -> bool:
        """Whether the mixture is compared with the student."""
        return self in (MixtureOrder.STUDENT_MIXTURE, MixtureOrder.MIXTURE_STUDENT)

    @property
    def mixture_first(self) -> bool:
        """Whether the mixture is what an expectation is taken over."""
        return self in (MixtureOrder.MIXTURE_TEACHER, MixtureOrder.MIXTURE_STUDENT)


class MixtureDivergence(StrEnum):
    """By which divergence alpha_mixture compares them."""

    KL = "kl"
    ALPHA_BETA = "alpha_beta"


class Outliers(StrEnum):
    """What entropy_gated learns where the teacher's entropy is out of range."""

    HARD_LOSS = "hard_loss"
    HARD_TARGET = "hard_target"


class Masks(StrEnum):
    """How multi_level leaves out what the teacher is sure of."""

    PER_SAMPLE = "per_sample"
    AS_PUBLISHED = "as_published"
    NONE = "none"


@dataclass(frozen=True)
class Parameter:
    """A number or switch of a divergence or policy: its default, its closed range, the narrower
    range that a searched domain must stay in, and the reason for that one.

    instead_of: another parameter of the row; exactly one of the two has a value, and the default
    counts only where the other has none. at_most: the parameter that this one must not exceed.
    """

    default: float | bool | str | None
    low: float | None = None
    high: float | None = None
    search_low: float | None = None
    search_high: float | None = None
    search_because: str = ""
    instead_of: str = ""
    at_most: str = ""

    def check(self, name: str, value: float) -> None:
        """Raises `ValueError` for a value out of the range."""
        low, high = self.low, self.high
        if low is not None and high is not None and not low <= value <= high:
            raise ValueError(f"{low} <= {name} <= {high} must hold, but got {name}={value}")


@dataclass(frozen=True)
class NotAllZero:
    """The rule that at least one of the weights `names` is positive; or_else: what would happen if
    none were."""

    names: tuple[str, ...]
    or_else: str


TEMPERATURES = frozenset(
    {Policy.FIXED, Policy.FIXED_TEACHER, Policy.CIST, Policy.LOGIT_STANDARDIZATION}
)
ALL_POLICIES = frozenset(Policy) - {Policy.NONE}


@dataclass(frozen=True)
class DivergenceTraits:
    """What a divergence or labelled term guarantees; the contract tests check what is declared
    here.

    smooth: it has no sign, sort or switch, so that rounding cannot take another branch. detached: a
    part is held constant in the gradient, which is therefore not the value's. row_local: a
    position's value depends on that position alone; else a first pass over the batch comes before
    the gradients, or, with couples_rows, all logits of a micro-batch are in memory at once.
    not_all_zero: a rule between its parameters. overflows_below: a parameter below this value can
    make the loss overflow; None: none can.
    """

    summary: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    policies: frozenset[Policy] = TEMPERATURES
    default_scalings: Mapping[Policy, Scaling] = field(default_factory=dict)
    nonnegative: bool = True
    zero_at_equality: bool = True
    shift_invariant: bool = True
    row_local: bool = True
    couples_rows: bool = False
    smooth: bool = True
    detached: bool = False
    needs_labels: bool = False
    not_all_zero: NotAllZero | None = None
    overflows_below: float | None = None


@dataclass(frozen=True)
class PolicyTraits:
    """What a policy needs, and which scalings make sense for it.

    softens_student: its temperature divides the student's logits too, which leaves a 1/tau in the
    gradient that a scaling undoes. without_temperature: with tau 1 it leaves the logits as they
    are, so that every scaling by a power of tau is the same. scale_free: it hides the student's
    logit scale from the soft loss. row_local: a position's softened logits depend on that position
    alone. learned: its temperature is a parameter that the optimiser moves, by the gradient through
    both sides' logits and through the scaling; so it goes only with divergences whose gradient by
    the teacher is known (`losses.divergences.MIRRORS`). held_whole: all logits of a micro-batch are
    in memory at once. needs_matrix: it goes only where logits are made by an output matrix.
    """

    summary: str
    parameters: Mapping[str, Parameter]
    default_scaling: Scaling
    scalings: frozenset[Scaling]
    softens_student: bool = True
    without_temperature: bool = False
    scale_free: bool = False
    row_local: bool = True
    learned: bool = False
    held_whole: bool = False
    needs_matrix: bool = False


@dataclass(frozen=True)
class OptionTraits:
    """What a soft loss may have whatever its divergence and policy: where the parameter `switch` is
    given, unless the divergence has a parameter of that name itself. row_local: with it a
    position's value still depends on that position alone."""

    summary: str
    switch: str
    parameters: Mapping[str, Parameter]
    row_local: bool = True
