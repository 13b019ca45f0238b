"""The fields of a trial's loss; the other sections are in `fields.py`. No torch."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from trainers.trial.groups import Fields, Group
from trainers.trial.kinds import Fraction, NonNegative, Number
from trainers.trial.sequence_terms import (
    ImportanceWeight,
    LengthNorm,
    SequenceTerm,
    refuse_estimators,
)
from trainers.trial.traits import (
    Masks,
    MixtureDivergence,
    MixtureOrder,
    Outliers,
    Policy,
    Scaling,
    Weighting,
)


def _is_none(value: object) -> bool:
    return value is None


class LossFields(Fields):
    """The loss: which divergence and policy, and their parameters. A parameter that the divergence
    and the policy of a trial do not have is None."""

    group = Group(section="loss")

    # Ranges and defaults of the parameters are in the catalogue's rows, since one name may mean
    # different things: beta of generalized_jsd is in 0 to 1, that of alpha_beta in -1 to 2.
    divergence: Annotated[
        str, Field(description="a name of trainers.trial.catalogue.DIVERGENCES, or module:function")
    ] = "forward_kl"
    policy: Annotated[Policy, Field(description="how logits are softened in the soft loss")] = (
        Policy.FIXED
    )
    tau: Annotated[
        Number | None, Field(description="temperature, of every policy but cist and curriculum")
    ] = None
    rho: Annotated[
        Number | None, Field(description="CIST's ratio: largest centred logit / temperature")
    ] = None
    rho_per_log_vocab: Annotated[Number | None, Field(description="c in rho = c * ln V")] = None
    scaling: Annotated[Scaling | None, Field(description="factor on the soft loss")] = None
    detach_student_temperature: Annotated[
        bool | None,
        Field(description="cist, dynamic: no gradient through the student's temperature"),
    ] = None
    tau_min: Annotated[
        Number | None, Field(description="lower clamp of per-position temperatures")
    ] = None
    tau_max: Annotated[
        Number | None, Field(description="upper clamp of per-position temperatures")
    ] = None
    beta: Annotated[
        Number | None,
        Field(
            description="generalized JSD: 0 is forward KL, 1 is reverse KL; alpha-beta: q's power"
        ),
    ] = None
    unit_curvature: Annotated[
        bool | None, Field(description="generalized JSD divided by beta (1 - beta)")
    ] = None
    alpha: Annotated[
        Number | None,
        Field(
            description="skew KLs: share mixed in, 0 is the KL; alpha-beta: p's power; "
            "alpha mixture: which mean"
        ),
    ] = None
    mixture_weight: Annotated[
        Number | None, Field(description="alpha mixture: teacher's weight in the mixture")
    ] = None
    mixture_order: Annotated[
        MixtureOrder | None, Field(description="alpha mixture: which two are compared")
    ] = None
    mixture_divergence: Annotated[
        MixtureDivergence | None, Field(description="alpha mixture: by what they are compared")
    ] = None
    skew_anchor: Annotated[
        Number | None,
        Field(description="contrastive skew KL: gap at which alpha falls", exclude_if=_is_none),
    ] = None
    detach_mixture: Annotated[
        bool | None, Field(description="skew reverse KL: no gradient through the mixture")
    ] = None
    weight: Annotated[
        Number | None, Field(description="Jeffreys: share of reverse KL, 0 is forward KL")
    ] = None
    head_mass: Annotated[
        Number | None, Field(description="adaptive KL: teacher mass that counts as its head")
    ] = None
    entropy_weight: Annotated[
        Number | None, Field(description="entropy switched: factor on the side with more entropy")
    ] = None
    reverse_weight: Annotated[
        Number | None, Field(description="entropy aware: reverse KL; 0 leaves the gated forward KL")
    ] = None
    forward_weight: Annotated[
        Number | None,
        Field(description="forward KL added to any divergence where the teacher is unsure: weight"),
    ] = None
    entropy_threshold: Annotated[
        Number | None,
        Field(description="with forward_weight: least entropy of an unsure teacher, in nats"),
    ] = None
    weighting: Annotated[
        Weighting | None, Field(description="concrete score: weights of the pairs of entries")
    ] = None
    target_weight: Annotated[
        Number | None, Field(description="decoupled: weight of label against rest")
    ] = None
    non_target_weight: Annotated[
        Number | None, Field(description="decoupled: weight of the other entries among themselves")
    ] = None
    gamma: Annotated[
        Number | None,
        Field(description="normalised, diverse reverse KL: weight of the other entries"),
    ] = None
    token_temperature: Annotated[
        Number | None, Field(description="token scaled: temperature of the weights over a sequence")
    ] = None
    mix_start: Annotated[
        Number | None, Field(description="interpolated: teacher's share at the first step")
    ] = None
    mix_end: Annotated[
        Number | None, Field(description="interpolated: teacher's share at the last step")
    ] = None
    mix_rate: Annotated[
        Number | None, Field(description="interpolated: adaptive growth; 0 is the linear schedule")
    ] = None
    weight_by_power_sum: Annotated[
        bool | None, Field(description="fixed_teacher: weight positions by the sum of p^(1/tau)")
    ] = None
    curriculum_range: Annotated[
        Number | None, Field(description="curriculum: temperature is in 1 to 1 + this")
    ] = None
    curriculum_ramp: Annotated[
        Number | None,
        Field(description="curriculum: share of steps over which the push grows to 1"),
    ] = None
    adaptivity: Annotated[
        Number | None, Field(description="token adaptive: strength; 0 is the fixed temperature")
    ] = None
    target_tau: Annotated[
        Number | None, Field(description="refined: temperature of its part with the label")
    ] = None
    cross_entropy_weight: Annotated[
        Number | None,
        Field(description="improved, generalized KL: weight of teacher's cross-entropy"),
    ] = None
    pair_weight: Annotated[
        Number | None, Field(description="improved, generalized KL: weight of the pairs of entries")
    ] = None
    pair_tau: Annotated[
        Number | None, Field(description="improved, generalized KL: temperature of pairs' weights")
    ] = None
    pair_power: Annotated[
        Number | None, Field(description="generalized KL: power of the pairs' weights")
    ] = None
    entropy_min: Annotated[
        Number | None, Field(description="entropy gated: least entropy of the teacher over ln V")
    ] = None
    entropy_max: Annotated[
        Number | None, Field(description="entropy gated: largest entropy of the teacher over ln V")
    ] = None
    outliers: Annotated[
        Outliers | None, Field(description="entropy gated: what is learned out of that range")
    ] = None
    between_weight: Annotated[
        Number | None, Field(description="correlation: weight of that over a row's classes")
    ] = None
    within_weight: Annotated[
        Number | None, Field(description="correlation: weight of that over a class's rows")
    ] = None
    class_weight: Annotated[
        Number | None, Field(description="multi-level: weight of the classes' products")
    ] = None
    batch_weight: Annotated[
        Number | None, Field(description="multi-level: weight of the rows' products")
    ] = None
    masks: Annotated[
        Masks | None, Field(description="multi-level: what is left out as sure already")
    ] = None
    # Left out of a document where they are not given, so that sweeps without them keep their ids.
    focus_rate: Annotated[
        Number | None,
        Field(
            description="only the hardest positions count: how fast their share moves; 0: never",
            exclude_if=_is_none,
        ),
    ] = None
    focus_tolerance: Annotated[
        Number | None,
        Field(
            description="with focus_rate: change of the soft loss that moves the share",
            exclude_if=_is_none,
        ),
    ] = None
    focus_decay: Annotated[
        Number | None,
        Field(description="with focus_rate: of the soft loss's average", exclude_if=_is_none),
    ] = None
    focus_warmup: Annotated[
        Number | None,
        Field(
            description="with focus_rate: share of the steps before it starts", exclude_if=_is_none
        ),
    ] = None
    focus_least: Annotated[
        Number | None,
        Field(description="with focus_rate: least share of positions", exclude_if=_is_none),
    ] = None
    hard_weight: Annotated[
        NonNegative, Field(description="weight of cross-entropy to the labels")
    ] = 0.1
    soft_weight: Annotated[
        NonNegative, Field(description="weight of the divergence to the teacher")
    ] = 0.9
    soft_warmup: Annotated[
        Fraction, Field(description="share of the steps over which soft_weight rises from 0")
    ] = 0.0


class LookAheadFields(Fields):
    """What policy `look_ahead` has beside tau; None under all others."""

    group = Group(section="loss")

    # Left out of a document where they are not given, so that sweeps without them keep their ids.
    look_ahead_range: Annotated[
        Number | None,
        Field(
            description="look ahead: temperatures are in tau / this to tau * this",
            exclude_if=_is_none,
        ),
    ] = None
    look_ahead_step: Annotated[
        Number | None,
        Field(
            description="look ahead: learning rate of the step that is looked at",
            exclude_if=_is_none,
        ),
    ] = None


class SequenceFields(Fields):
    """The sequence term, and its parameters; those that a trial's term does not have are None."""

    group = Group(section="loss")

    # Left out of a document where they are not given, so that sweeps without them keep their ids.
    sequence_term: Annotated[
        SequenceTerm,
        BeforeValidator(refuse_estimators),
        Field(
            description="what is learned from the tokens that the student drew, by their "
            "log-probabilities alone",
            exclude_if=lambda term: term == SequenceTerm.NONE,
        ),
    ] = SequenceTerm.NONE
    sequence_weight: Annotated[
        Number | None, Field(description="weight of the sequence term", exclude_if=_is_none)
    ] = None
    importance_weight: Annotated[
        ImportanceWeight | None,
        Field(
            description="sequence term: weighs by q over what the text was drawn from: token: at "
            "each token; sequence: of the text so far",
            exclude_if=_is_none,
        ),
    ] = None
    clip_ratio: Annotated[
        Number | None,
        Field(
            description="sequence term: how far from 1 a weight may move the student further; "
            "0 does not clip",
            exclude_if=_is_none,
        ),
    ] = None
    discount: Annotated[
        Number | None,
        Field(
            description="sequence term: factor on the reward of each later token; 0: a token's "
            "own alone",
            exclude_if=_is_none,
        ),
    ] = None
    include_current: Annotated[
        bool | None,
        Field(
            description="sequence term: whether a token's own reward counts beside later ones",
            exclude_if=_is_none,
        ),
    ] = None
    length_norm: Annotated[
        LengthNorm | None,
        Field(
            description="sequence term: what a return is divided by, the tokens that are left or "
            "the sum of their discounts",
            exclude_if=_is_none,
        ),
    ] = None
    whiten: Annotated[
        bool | None,
        Field(
            description="sequence term: returns less their mean, over their standard deviation",
            exclude_if=_is_none,
        ),
    ] = None


class LossPermissions(Fields):
    """What has to be allowed before a loss may do it."""

    group = Group(section="loss", fixed_because="it is a permission, not a hyperparameter")

    allow_free_logit_scale: bool = False
