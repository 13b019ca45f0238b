"""The divergences and temperature policies by name, with what each needs and guarantees; no torch.

`trainers.trial.config` checks a trial against these tables, `trainers.losses` has the functions
under the same names, and the contract tests follow the traits. A row here and a function there is
all that a new divergence or policy takes: no other file asks for a row by its name.
"""

from collections.abc import Mapping

from trainers.trial.traits import (
    ALL_POLICIES,
    TEMPERATURES,
    DivergenceTraits,
    Masks,
    MixtureDivergence,
    MixtureOrder,
    NotAllZero,
    OptionTraits,
    Outliers,
    Parameter,
    Policy,
    PolicyTraits,
    Scaling,
    Weighting,
)

SKEW = Parameter(0.1, 0.0, 0.99)
ALIVE = "where its gradient is alive (its ends are forward_kl and reverse_kl)"
ENTROPY_THRESHOLD = Parameter(0.8, 0.0, 20.0)
POWERS = "below which it can overflow and above which its gradient fades"

DIVERGENCES: Mapping[str, DivergenceTraits] = {
    "forward_kl": DivergenceTraits(
        "KL(p‖q): covers every mode of the teacher", policies=ALL_POLICIES
    ),
    "reverse_kl": DivergenceTraits(
        "KL(q‖p): seeks the teacher's largest modes", policies=ALL_POLICIES
    ),
    "reverse_cross_entropy": DivergenceTraits(
        "-Σ q log p: reverse KL without the student's entropy", zero_at_equality=False
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
    "alpha_mixture": DivergenceTraits(
        "KL or alpha-beta divergence of a side to a mixture of both: alpha -1 their arithmetic "
        "mean, 1 the geometric, 3 the harmonic",
        parameters={
            "alpha": Parameter(0.5, -100.0, 100.0),
            "mixture_weight": Parameter(0.5, 0.01, 0.99),
            "mixture_order": Parameter(MixtureOrder.TEACHER_MIXTURE),
            "mixture_divergence": Parameter(MixtureDivergence.KL),
        },
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
    "entropy_aware": DivergenceTraits(
        "reverse KL, plus forward KL where the teacher's entropy reaches a threshold in nats",
        parameters={
            "reverse_weight": Parameter(1.0, 0.0, 100.0),
            "forward_weight": Parameter(1.0, 0.0, 100.0),
            "entropy_threshold": ENTROPY_THRESHOLD,
        },
        not_all_zero=NotAllZero(
            ("reverse_weight", "forward_weight"), "the teacher has no part in the loss"
        ),
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
    "diverse_reverse_kl": DivergenceTraits(
        "reverse KL of label against rest, plus gamma times that among the other entries",
        parameters={"gamma": Parameter(0.5, 0.0, 100.0)},
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
    "generalized_kl": DivergenceTraits(
        "improved_kl with the pairs' weights to a power, normalised over the batch",
        parameters={
            "cross_entropy_weight": Parameter(1.0, 0.0, 100.0),
            "pair_weight": Parameter(12.0, 0.0, 100.0),
            "pair_tau": Parameter(4.0, 1e-3, 1e3),
            "pair_power": Parameter(0.3, 0.0, 1.0),
        },
        not_all_zero=NotAllZero(
            ("cross_entropy_weight", "pair_weight"), "the teacher has no part in the loss"
        ),
        default_scalings={Policy.FIXED: Scaling.NONE},
        zero_at_equality=False,
        row_local=False,
        couples_rows=True,
    ),
    "contrastive_skew_kl": DivergenceTraits(
        "skew reverse KL where the student wrote the text, skew forward KL elsewhere",
        parameters={"alpha": SKEW, "skew_anchor": Parameter(0.0, 0.0, 1.0)},
        detached=True,
    ),
    "stepwise_jsd": DivergenceTraits(
        "(1-beta) KL(q‖m) where the student wrote the text, beta KL(p‖m) elsewhere",
        parameters={"beta": Parameter(0.5, 0.01, 0.99)},
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
    ("entropy_aware", {"reverse_weight": 1.0, "forward_weight": 0.0}, "reverse_kl"),
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

CURRICULUM: Mapping[str, Parameter] = {
    "curriculum_range": Parameter(20.0, 1e-3, 1e3),
    "curriculum_ramp": Parameter(0.1, 0.0, 1.0),
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
        parameters=CURRICULUM,
        learned=True,
        default_scaling=Scaling.TAU_SQUARED,
        scalings=frozenset({Scaling.NONE, Scaling.TAU, Scaling.TAU_SQUARED}),
    ),
    Policy.CURRICULUM_INSTANCE: PolicyTraits(
        "curriculum's temperature for each position, by a network from both predictions (our "
        "reading)",
        parameters=CURRICULUM,
        learned=True,
        held_whole=True,
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
    Policy.LOOK_AHEAD: PolicyTraits(
        "a temperature for each side, moved so that a step on some texts makes others likelier "
        "(our reading)",
        parameters={
            "tau": TAU,
            "look_ahead_range": Parameter(8.0, 1.01, 1e3),
            "look_ahead_step": Parameter(0.01, 1e-6, 1e3),
        },
        default_scaling=Scaling.TEACHER_STUDENT,
        scalings=frozenset({Scaling.NONE, Scaling.TEACHER_STUDENT, Scaling.TEACHER_SQUARED}),
        needs_matrix=True,
    ),
}

OPTIONS: Mapping[str, OptionTraits] = {
    "entropy_gate": OptionTraits(
        "forward KL added where the teacher's entropy reaches a threshold in nats",
        switch="forward_weight",
        parameters={
            "forward_weight": Parameter(None, 0.0, 100.0),
            "entropy_threshold": ENTROPY_THRESHOLD,
        },
    ),
    "focus": OptionTraits(
        "only the share of positions counts on which both sides differ most; it falls and rises "
        "with the soft loss",
        switch="focus_rate",
        parameters={
            "focus_rate": Parameter(None, 0.0, 0.9),
            "focus_tolerance": Parameter(0.1, 0.0, 1.0),
            "focus_decay": Parameter(0.99, 0.0, 0.9999),
            "focus_warmup": Parameter(0.05, 0.0, 1.0),
            "focus_least": Parameter(0.1, 1e-3, 1.0),
        },
        row_local=False,
    ),
}
