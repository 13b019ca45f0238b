"""The divergences and temperature policies by name, with what each needs and guarantees; no torch.

`trainers.trial.config` checks a trial against these tables, `trainers.losses` has the functions
under the same names, and the contract tests follow the traits. A row here and a function there is
all that a new divergence or policy takes: no other file asks for a row by its name.
"""

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
    DYNAMIC = "dynamic"
    TOKEN_ADAPTIVE = "token_adaptive"


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
    the teacher is known (`losses.divergences.MIRRORS`).
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


SKEW = Parameter(0.1, 0.0, 0.99)
ALIVE = "where its gradient is alive (its ends are forward_kl and reverse_kl)"
POWERS = "below which it can overflow and above which its gradient fades"

DIVERGENCES: Mapping[str, DivergenceTraits] = {
    "forward_kl": DivergenceTraits(
        "KL(p‖q): covers every mode of the teacher", policies=ALL_POLICIES
    ),
    "reverse_kl": DivergenceTraits(
        "KL(q‖p): seeks the teacher's largest modes", policies=ALL_POLICIES
    ),
    "jeffreys": DivergenceTraits(
        "(1-weight) KL(p‖q) + weight KL(q‖p)", parameters={"weight": Parameter(0.5, 0.0, 1.0)}
    ),
    "generalized_jsd": DivergenceTraits(
        "beta KL(p‖m) + (1-beta) KL(q‖m), m = beta p + (1-beta) q; 0: forward KL, 1: reverse KL",
        parameters={
            "beta": Parameter(0.5, 0.0, 1.0, 0.05, 0.95, ALIVE),
            "unit_curvature": Parameter(False),
        },
        policies=ALL_POLICIES,
    ),
    "skew_forward_kl": DivergenceTraits(
        "KL(p‖alpha p + (1-alpha) q); alpha 0: forward KL", parameters={"alpha": SKEW}
    ),
    "skew_reverse_kl": DivergenceTraits(
        "KL(q‖(1-alpha) p + alpha q); alpha 0: reverse KL",
        parameters={"alpha": SKEW, "detach_mixture": Parameter(False)},
    ),
    "total_variation": DivergenceTraits(
        "half the sum of |p - q|; its natural factor is tau",
        default_scalings={
            Policy.FIXED: Scaling.TAU,
            Policy.LOGIT_STANDARDIZATION: Scaling.TAU,
        },
        smooth=False,
    ),
    "adaptive_kl": DivergenceTraits(
        "forward and reverse KL, weighted by the gap |p - q| on the teacher's head and tail",
        parameters={"head_mass": Parameter(0.5, 0.0, 1.0)},
        smooth=False,
        detached=True,
    ),
    "alpha_beta": DivergenceTraits(
        "the alpha-beta family; (1, 0) is forward KL, (0, 1) reverse KL",
        parameters={
            "alpha": Parameter(0.2, -1.0, 2.0, 0.0, 1.0, POWERS),
            "beta": Parameter(0.7, -1.0, 2.0, 0.0, 1.0, POWERS),
        },
        overflows_below=0.0,
    ),
    "token_wise": DivergenceTraits(
        "forward and reverse KL mixed per vocabulary entry by p / (p + q)", detached=True
    ),
    "concrete_score": DivergenceTraits(
        "gaps of logit gaps over pairs of entries; weighting `student` has reverse KL's gradient",
        parameters={"weighting": Parameter(Weighting.STUDENT)},
        detached=True,
    ),
    "centred_mse": DivergenceTraits(
        "‖c(z) - c(v)‖² / (2V): where both KLs times tau² tend to for large tau",
        policies=frozenset({Policy.NONE}),
    ),
    "entropy_switched": DivergenceTraits(
        "forward plus reverse KL, the one of the side with more entropy taken entropy_weight times",
        parameters={"entropy_weight": Parameter(3.0, 1.0, 100.0)},
        smooth=False,
    ),
    "decoupled": DivergenceTraits(
        "KL of label against rest, plus KL among the other entries, weighted apart",
        parameters={
            "target_weight": Parameter(1.0, 0.0, 100.0),
            "non_target_weight": Parameter(8.0, 0.0, 100.0),
        },
        not_all_zero=NotAllZero(
            ("target_weight", "non_target_weight"), "the teacher has no part in the loss"
        ),
        needs_labels=True,
    ),
    "normalised": DivergenceTraits(
        "-p_y log q_y at temperature 1, plus gamma times the cross-entropy among the other entries",
        parameters={"gamma": Parameter(1.5, 0.0, 100.0)},
        zero_at_equality=False,
        needs_labels=True,
    ),
    "token_scaled": DivergenceTraits(
        "forward KL, positions of a sequence weighted by how badly the teacher predicts the label",
        parameters={"token_temperature": Parameter(1.0, 1e-3, 1e3)},
        row_local=False,
        needs_labels=True,
    ),
    "interpolated": DivergenceTraits(
        "forward KL to a target that moves from the student to the teacher over the training",
        parameters={
            "mix_start": Parameter(0.4, 0.0, 1.0, at_most="mix_end"),
            "mix_end": Parameter(1.0, 0.0, 1.0),
            "mix_rate": Parameter(5e-4, 0.0, 1.0),
        },
        policies=TEMPERATURES - {Policy.FIXED_TEACHER},
        not_all_zero=NotAllZero(("mix_end",), "the target never moves to the teacher"),
        detached=True,
    ),
    "refined": DivergenceTraits(
        "KL of the teacher's surest entry to the label, plus KL among those ranked below the label",
        parameters={
            "target_weight": Parameter(1.0, 0.0, 100.0),
            "non_target_weight": Parameter(8.0, 0.0, 100.0),
            "target_tau": Parameter(1.0, 1e-3, 1e3),
        },
        not_all_zero=NotAllZero(
            ("target_weight", "non_target_weight"), "the teacher has no part in the loss"
        ),
        zero_at_equality=False,
        smooth=False,
        needs_labels=True,
    ),
    "improved_kl": DivergenceTraits(
        "cross-entropy to the teacher, plus gaps of logit gaps over pairs weighted by the teacher",
        parameters={
            "cross_entropy_weight": Parameter(1.0, 0.0, 100.0),
            "pair_weight": Parameter(8.0, 0.0, 100.0),
            "pair_tau": Parameter(100.0, 1e-3, 1e3),
        },
        not_all_zero=NotAllZero(
            ("cross_entropy_weight", "pair_weight"), "the teacher has no part in the loss"
        ),
        default_scalings={Policy.FIXED: Scaling.NONE},
        zero_at_equality=False,
    ),
    "entropy_gated": DivergenceTraits(
        "forward KL where the teacher's entropy is in range, elsewhere the label (our reading)",
        parameters={
            "entropy_min": Parameter(0.05, 0.0, 1.0, at_most="entropy_max"),
            "entropy_max": Parameter(0.95, 0.0, 1.0),
            "outliers": Parameter(Outliers.HARD_LOSS),
        },
        zero_at_equality=False,
        smooth=False,
        needs_labels=True,
    ),
    "correlation": DivergenceTraits(
        "1 less Pearson's correlation of p and q, between classes and within each class",
        parameters={
            "between_weight": Parameter(1.0, 0.0, 100.0),
            "within_weight": Parameter(1.0, 0.0, 100.0),
        },
        not_all_zero=NotAllZero(
            ("between_weight", "within_weight"), "the teacher has no part in the loss"
        ),
        row_local=False,
        couples_rows=True,
    ),
    "multi_level": DivergenceTraits(
        "forward KL at five temperatures, plus products of classes and of rows with one another",
        parameters={
            "class_weight": Parameter(1.0, 0.0, 100.0),
            "batch_weight": Parameter(1.0, 0.0, 100.0),
            "masks": Parameter(Masks.PER_SAMPLE),
        },
        row_local=False,
        couples_rows=True,
        smooth=False,
    ),
}

# Divergences whose gradient, with these parameters, is exactly that of another one.
TWINS: tuple[tuple[str, Mapping[str, object], str], ...] = (
    ("jeffreys", {"weight": 0.0}, "forward_kl"),
    ("jeffreys", {"weight": 1.0}, "reverse_kl"),
    ("generalized_jsd", {"beta": 0.0}, "forward_kl"),
    ("generalized_jsd", {"beta": 1.0}, "reverse_kl"),
    ("skew_forward_kl", {"alpha": 0.0}, "forward_kl"),
    ("skew_reverse_kl", {"alpha": 0.0}, "reverse_kl"),
    ("adaptive_kl", {"head_mass": 1.0}, "forward_kl"),
    ("alpha_beta", {"alpha": 1.0, "beta": 0.0}, "forward_kl"),
    ("alpha_beta", {"alpha": 0.0, "beta": 1.0}, "reverse_kl"),
    ("concrete_score", {"weighting": Weighting.STUDENT}, "reverse_kl"),
    ("interpolated", {"mix_start": 1.0}, "forward_kl"),
)

# Policies whose loss, with these parameters, is exactly that of another one at the same tau.
POLICY_TWINS: tuple[tuple[Policy, Mapping[str, object], Policy], ...] = (
    (Policy.FIXED_TEACHER, {"tau": 1.0}, Policy.FIXED),
    (Policy.TOKEN_ADAPTIVE, {"adaptivity": 0.0}, Policy.FIXED),
)

TAU = Parameter(1.0, 1e-3, 1e3)
CLAMP: Mapping[str, Parameter] = {
    "tau_min": Parameter(1e-3, 1e-6, 1e6, at_most="tau_max"),
    "tau_max": Parameter(1e3, 1e-6, 1e6),
}

POLICIES: Mapping[Policy, PolicyTraits] = {
    Policy.NONE: PolicyTraits(
        "logits as they are",
        parameters={},
        default_scaling=Scaling.NONE,
        scalings=frozenset({Scaling.NONE}),
    ),
    Policy.FIXED: PolicyTraits(
        "one temperature tau for teacher and student",
        parameters={"tau": TAU},
        without_temperature=True,
        default_scaling=Scaling.TAU_SQUARED,
        scalings=frozenset({Scaling.NONE, Scaling.TAU, Scaling.TAU_SQUARED}),
    ),
    Policy.FIXED_TEACHER: PolicyTraits(
        "tau on the teacher alone, the student stays at 1",
        parameters={"tau": TAU, "weight_by_power_sum": Parameter(False)},
        softens_student=False,
        default_scaling=Scaling.NONE,
        scalings=frozenset({Scaling.NONE}),
    ),
    Policy.CIST: PolicyTraits(
        "per position: temperature = largest centred logit / rho, for teacher and student apart",
        parameters={
            "rho": Parameter(None, 1e-3, 1e4),
            "rho_per_log_vocab": Parameter(1.0, 1e-3, 1e3, instead_of="rho"),
            "detach_student_temperature": Parameter(False),
            **CLAMP,
        },
        default_scaling=Scaling.TEACHER_STUDENT,
        scalings=frozenset({Scaling.NONE, Scaling.TEACHER_STUDENT, Scaling.TEACHER_SQUARED}),
        scale_free=True,
    ),
    Policy.LOGIT_STANDARDIZATION: PolicyTraits(
        "per position: (logits - mean) / (standard deviation * tau), for teacher and student apart",
        parameters={"tau": Parameter(2.0, 1e-3, 1e3), **CLAMP},
        default_scaling=Scaling.TAU_SQUARED,
        scalings=frozenset(
            {Scaling.NONE, Scaling.TAU, Scaling.TAU_SQUARED, Scaling.TEACHER_SQUARED}
        ),
        scale_free=True,
    ),
    Policy.CURRICULUM: PolicyTraits(
        "one learned temperature, pushed to make the loss harder (reversed gradient)",
        parameters={
            "curriculum_range": Parameter(20.0, 1e-3, 1e3),
            "curriculum_ramp": Parameter(0.1, 0.0, 1.0),
        },
        learned=True,
        default_scaling=Scaling.TAU_SQUARED,
        scalings=frozenset({Scaling.NONE, Scaling.TAU, Scaling.TAU_SQUARED}),
    ),
    Policy.DYNAMIC: PolicyTraits(
        "per position: 2 tau shared between teacher and student by their largest centred logits",
        parameters={"tau": TAU, "detach_student_temperature": Parameter(False), **CLAMP},
        default_scaling=Scaling.TEACHER_STUDENT,
        scalings=frozenset({Scaling.NONE, Scaling.TEACHER_STUDENT, Scaling.TEACHER_SQUARED}),
        scale_free=True,
    ),
    Policy.TOKEN_ADAPTIVE: PolicyTraits(
        "per position: tau * exp(-adaptivity * tanh(log(difficulty / median difficulty)))",
        parameters={"tau": TAU, "adaptivity": Parameter(0.5, 0.0, 5.0), **CLAMP},
        default_scaling=Scaling.TAU_SQUARED,
        scalings=frozenset({Scaling.NONE, Scaling.TAU, Scaling.TAU_SQUARED}),
        row_local=False,
    ),
}
