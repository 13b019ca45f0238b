"""TrialConfig: everything that decides what one trial computes, flat, strict and frozen; no torch.

The names under `search:` in a sweep are the fields of this class. Where data and models lie is not
part of it (see `trial_file.py`), so the same config on another machine is the same trial.
"""

import difflib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from trainers.trial.catalogue import (
    DIVERGENCES,
    POLICIES,
    DivergenceTraits,
    Policy,
    PolicyTraits,
    Scaling,
    Weighting,
)
from trainers.trial.rules import check_values

CUSTOM_DIVERGENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class Task(StrEnum):
    """What the student learns to do."""

    CAUSAL_LM = "causal_lm"


class Optimizer(StrEnum):
    """Which optimiser updates the student."""

    ADAMW = "adamw"
    SGD = "sgd"


class Schedule(StrEnum):
    """How the learning rate moves after warm-up."""

    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant"


class Precision(StrEnum):
    """Compute precision; `auto` is bfloat16 autocast on a GPU and float32 on a CPU."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def _no_switch(value: Any) -> Any:
    """Python counts true and false among the numbers; a sweep's writer does not."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, but got {value}")
    return value


NOT_A_SWITCH = BeforeValidator(_no_switch)
Number = Annotated[float, Field(allow_inf_nan=False), NOT_A_SWITCH]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), NOT_A_SWITCH]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), NOT_A_SWITCH]
Fraction = Annotated[float, Field(ge=0, le=1), NOT_A_SWITCH]
Count = Annotated[int, Field(ge=1), NOT_A_SWITCH]


class TrialConfig(BaseModel):
    """One trial's hyperparameters and budget. Defaults of a divergence or policy are filled in, so
    that what was not written down is visible in `trial.json` too. Raises `ValueError` naming the
    field and the rule."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_enum_values=False, strict=False)

    task: Task = Task.CAUSAL_LM
    # -- loss
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
        Field(description="skew KLs: share mixed in, 0 is the KL; alpha-beta: p's power"),
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
        Number | None, Field(description="normalised: weight of the other entries")
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
        Number | None, Field(description="curriculum: temperature lies in 1 to 1 + this")
    ] = None
    curriculum_ramp: Annotated[
        Number | None,
        Field(description="curriculum: share of steps over which the push grows to 1"),
    ] = None
    adaptivity: Annotated[
        Number | None, Field(description="token adaptive: strength; 0 is the fixed temperature")
    ] = None
    hard_weight: Annotated[
        NonNegative, Field(description="weight of cross-entropy to the labels")
    ] = 0.1
    soft_weight: Annotated[
        NonNegative, Field(description="weight of the divergence to the teacher")
    ] = 0.9
    allow_free_logit_scale: bool = False
    # -- training
    epochs: Annotated[
        Positive | None, Field(description="passes over the training data; or give steps")
    ] = None
    steps: Annotated[Count | None, Field(description="optimiser steps; or give epochs")] = None
    batch_size: Annotated[
        Count, Field(description="examples in one optimiser step, over all workers")
    ] = 32
    gradient_accumulation: Annotated[
        Count, Field(description="micro-batches per step and worker")
    ] = 1
    optimizer: Optimizer = Optimizer.ADAMW
    learning_rate: Annotated[Positive, Field(description="peak learning rate")] = 5e-4
    weight_decay: NonNegative = 0.01
    schedule: Schedule = Schedule.COSINE
    warmup: Annotated[
        Fraction, Field(description="share of the steps with a rising learning rate")
    ] = 0.0
    clip_norm: Annotated[
        NonNegative, Field(description="largest gradient norm; 0 does not clip")
    ] = 1.0
    precision: Precision = Precision.AUTO
    seed: Annotated[int, NOT_A_SWITCH, Field(ge=0, description="data order and dropout")] = 0
    gradient_checkpointing: bool = False
    attention_implementation: Annotated[
        str | None, Field(description="sdpa | eager | flash_attention_2")
    ] = None
    # -- data
    max_tokens: Annotated[
        int, Field(ge=8, description="prompt and response together, in tokens")
    ] = 512
    max_prompt_tokens: Annotated[
        int, NOT_A_SWITCH, Field(ge=1, description="longer prompts are dropped")
    ] = 256
    # -- evaluation: the same in every trial, never searched
    evaluations: Annotated[
        Count, Field(description="evaluations spread over the budget, the last at its end")
    ] = 5
    generation_prompts: Annotated[
        int, Field(ge=0, description="validation prompts answered for rouge_l")
    ] = 100
    generation_seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (10,)
    generation_temperature: Annotated[
        NonNegative, Field(description="of sampled text; 0 is greedy")
    ] = 1.0
    max_new_tokens: Count = 128
    no_repeat_ngram_size: Annotated[int, NOT_A_SWITCH, Field(ge=0)] = 6

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, values: Any) -> Any:
        """Writes out the defaults that depend on the divergence and the policy."""
        if not isinstance(values, dict):
            return values
        filled = {name: value for name, value in values.items() if value is not None}
        if not filled.get("steps") and not filled.get("epochs"):
            filled["epochs"] = 1.0
        return _loss_defaults(filled) | filled

    @model_validator(mode="after")
    def _check_rules(self) -> "TrialConfig":
        _check_divergence(self)
        _check_policy(self)
        _check_parameters(self)
        check_values(self)
        return self


NOT_SEARCHABLE: dict[str, str] = {
    name: "evaluation must be the same in every trial"
    for name in (
        "evaluations",
        "generation_prompts",
        "generation_seeds",
        "generation_temperature",
        "max_new_tokens",
        "no_repeat_ngram_size",
    )
} | {
    "task": "a sweep has one task",
    "max_tokens": "trials that are compared share their data",
    "max_prompt_tokens": "trials that are compared share their data",
    "allow_free_logit_scale": "it is a permission, not a hyperparameter",
}


def nearest(name: str, known: list[str]) -> str:
    """Returns ` Did you mean 'x'?`, or an empty string when nothing known is close to `name`."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _loss_defaults(given: dict[str, Any]) -> dict[str, Any]:
    """Returns the defaults that the given divergence and policy bring along."""
    divergence = DIVERGENCES.get(given.get("divergence", "forward_kl"))
    defaults = _parameter_defaults(divergence, given) if divergence else {}
    policy = given.get("policy", Policy.FIXED)
    if divergence is not None and "policy" not in given and policy not in divergence.policies:
        policy = defaults["policy"] = min(divergence.policies)
    if policy not in list(Policy):
        return defaults
    traits = POLICIES[Policy(policy)]
    special = divergence.default_scalings if divergence else {}
    defaults["scaling"] = special.get(Policy(policy), traits.default_scaling)
    return defaults | _parameter_defaults(traits, given)


def _parameter_defaults(
    row: DivergenceTraits | PolicyTraits, given: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in row.parameters.items()
        if parameter.default is not None and parameter.instead_of not in given
    }


def _check_divergence(config: TrialConfig) -> None:
    if config.divergence in DIVERGENCES or CUSTOM_DIVERGENCE.fullmatch(config.divergence):
        return
    known = sorted(DIVERGENCES)
    raise ValueError(
        f"divergence must be one of {', '.join(known)} or module:function, "
        f"but got '{config.divergence}'.{nearest(config.divergence, known)}"
    )


def _check_policy(config: TrialConfig) -> None:
    traits = POLICIES[config.policy]
    row = DIVERGENCES.get(config.divergence)
    if row is not None and config.policy not in row.policies:
        allowed = ", ".join(sorted(row.policies))
        raise ValueError(
            f"divergence '{config.divergence}' goes with policy {allowed}, "
            f"but got policy '{config.policy}'"
        )
    if row is None and traits.learned:
        raise ValueError(
            f"policy '{config.policy}' must have a shipped divergence, whose gradient by the "
            f"teacher's temperature is known, but got '{config.divergence}'. Use another policy"
        )
    if config.scaling not in traits.scalings:
        allowed = ", ".join(sorted(traits.scalings))
        raise ValueError(
            f"scaling under policy '{config.policy}' must be one of {allowed}, "
            f"but got '{config.scaling}'"
        )
    _check_alternatives(config)
    if traits.scale_free and config.hard_weight == 0 and not config.allow_free_logit_scale:
        raise ValueError(
            f"hard_weight > 0 must hold under policy '{config.policy}', which leaves the student's "
            "logit scale to the hard loss, but got hard_weight=0. Use a positive hard_weight, or "
            "allow_free_logit_scale: true"
        )


def _check_alternatives(config: TrialConfig) -> None:
    for name, parameter in POLICIES[config.policy].parameters.items():
        if not parameter.instead_of:
            continue
        first, second = getattr(config, parameter.instead_of), getattr(config, name)
        if (first is None) == (second is None):
            raise ValueError(
                f"exactly one of {parameter.instead_of} and {name} must be given under policy "
                f"'{config.policy}', but got {parameter.instead_of}={first}, {name}={second}"
            )


def _check_parameters(config: TrialConfig) -> None:
    owners = parameter_owners()
    own = dict(POLICIES[config.policy].parameters)
    if config.divergence in DIVERGENCES:
        own |= DIVERGENCES[config.divergence].parameters
    for name in owners:
        value = getattr(config, name)
        if value is None:
            continue
        if name not in own:
            if config.divergence not in DIVERGENCES and name not in _policy_parameters():
                continue
            raise ValueError(
                f"{name} belongs to {', '.join(owners[name])}, but got {name}={value} with "
                f"divergence '{config.divergence}' and policy '{config.policy}'. "
                "Leave it out"
            )
        low, high = own[name].low, own[name].high
        if low is not None and high is not None and not low <= value <= high:
            raise ValueError(f"{low} <= {name} <= {high} must hold, but got {name}={value}")


def _policy_parameters() -> set[str]:
    return {name for traits in POLICIES.values() for name in traits.parameters}


def parameter_owners() -> dict[str, list[str]]:
    """Returns each parameter of the catalogue with the divergences and policies that have it."""
    owners: dict[str, list[str]] = {}
    for table in (DIVERGENCES, POLICIES):
        for row_name, row in table.items():
            for name in row.parameters:
                owners.setdefault(name, []).append(str(row_name))
    return owners
