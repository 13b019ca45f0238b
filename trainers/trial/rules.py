"""The rules between values of a trial, beside the range of each, and the defaults that one value
brings for others; no torch."""

import re
from collections.abc import Mapping
from typing import Any

from trainers.nearest import nearest
from trainers.trial.catalogue import DIVERGENCES, OPTIONS, POLICIES
from trainers.trial.fields import (
    ImageDataFields,
    LanguageDataFields,
    Loss,
    TaskField,
    TaskName,
    TrainingFields,
)
from trainers.trial.loss_fields import LossFields
from trainers.trial.sequence_terms import SequenceTerm
from trainers.trial.traits import (
    DivergenceTraits,
    NotAllZero,
    OptionTraits,
    Parameter,
    Policy,
    PolicyTraits,
)

CUSTOM_DIVERGENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
# Each parameter that another one limits, with that one.
LIMITED_BY: dict[str, str] = {
    name: parameter.at_most
    for table in (POLICIES, DIVERGENCES)
    for row in table.values()
    for name, parameter in row.parameters.items()
    if parameter.at_most
}


def loss_defaults(given: dict[str, Any]) -> dict[str, Any]:
    """Returns the defaults that the given divergence and policy bring along."""
    named, policy = given.get("divergence", "forward_kl"), given.get("policy", Policy.FIXED)
    if not isinstance(named, str) or not isinstance(policy, str):
        return {}  # pydantic refuses it
    divergence = DIVERGENCES.get(named)
    defaults: dict[str, Any] = {}
    for option in OPTIONS.values():
        if option.switch in given:
            defaults |= _parameter_defaults(option, given)
    defaults |= _parameter_defaults(divergence, given) if divergence else {}
    # A divergence that the usual policy does not go with brings its own; by name, so that the same
    # one is taken in every process.
    if divergence is not None and "policy" not in given and policy not in divergence.policies:
        policy = defaults["policy"] = min(divergence.policies)
    if policy not in list(Policy):
        return defaults  # pydantic refuses it, with the names that are known
    traits = POLICIES[Policy(policy)]
    special = divergence.default_scalings if divergence else {}
    defaults["scaling"] = special.get(Policy(policy), traits.default_scaling)
    return defaults | _parameter_defaults(traits, given)


def _parameter_defaults(
    row: DivergenceTraits | PolicyTraits | OptionTraits, given: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in row.parameters.items()
        if parameter.default is not None and parameter.instead_of not in given
    }


def check_loss(config: Loss) -> None:
    """Raises `ValueError` that names the fields, the rule and what came instead."""
    _check_divergence(config)
    _check_policy(config)
    _check_parameters(config)
    _check_options(config)
    _check_order(config)
    _check_something_is_learnt(config)


def check_budget(config: TrainingFields) -> None:
    """Raises `ValueError` unless exactly one of steps and epochs is given."""
    if config.steps is not None and config.epochs is not None:
        raise ValueError(
            f"give steps or epochs, not both, but got steps={config.steps}, epochs={config.epochs}"
        )


def check_lengths(config: LanguageDataFields) -> None:
    """Raises `ValueError` unless there is room for a response."""
    if config.max_prompt_tokens >= config.max_tokens:
        raise ValueError(
            "max_prompt_tokens < max_tokens must hold, or no response fits, "
            f"but got max_prompt_tokens={config.max_prompt_tokens}, max_tokens={config.max_tokens}"
        )


def check_regions(config: Loss, data: ImageDataFields) -> None:
    """Raises `ValueError` where regions have losses of their own and a loss looks at all positions
    of a batch together."""
    if data.regions == 1:
        return
    divergence, policy = DIVERGENCES.get(config.divergence), POLICIES[config.policy]
    by_batch = {
        "divergence": divergence is not None and not divergence.row_local,
        "policy": not policy.row_local or policy.held_whole,
    } | {
        option.switch: not option.row_local and getattr(config, option.switch) is not None
        for option in OPTIONS.values()
    }
    for field, looks_at_batch in by_batch.items():
        if looks_at_batch:
            raise ValueError(
                f"regions = 1 must hold with {field} '{getattr(config, field)}', which looks at a "
                f"whole batch, but got regions={data.regions}. Change {field}, or leave "
                "data.regions out"
            )


def check_matrix(config: Loss, task: TaskField) -> None:
    """Raises `ValueError` where a policy looks at the output matrix, and models are asked for their
    logits alone."""
    if POLICIES[config.policy].needs_matrix and task.task == TaskName.IMAGE_CLASSIFICATION:
        raise ValueError(
            f"policy '{config.policy}' must have a task whose models end in an output matrix, "
            f"which it looks at, but got task '{task.task}'. Use another policy"
        )


def _check_divergence(config: LossFields) -> None:
    if config.divergence in DIVERGENCES or CUSTOM_DIVERGENCE.fullmatch(config.divergence):
        return
    known = sorted(DIVERGENCES)
    raise ValueError(
        f"divergence must be one of {', '.join(known)} or module:function, "
        f"but got '{config.divergence}'.{nearest(config.divergence, known)}"
    )


def _check_policy(config: Loss) -> None:
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


def _check_alternatives(config: LossFields) -> None:
    # The default of one counts only where the other was not given (`_parameter_defaults`), so both
    # have a value only where both were written.
    for name, parameter in POLICIES[config.policy].parameters.items():
        if not parameter.instead_of:
            continue
        first, second = getattr(config, parameter.instead_of), getattr(config, name)
        if (first is None) == (second is None):
            raise ValueError(
                f"exactly one of {parameter.instead_of} and {name} must be given under policy "
                f"'{config.policy}', but got {parameter.instead_of}={first}, {name}={second}"
            )


def _check_parameters(config: LossFields) -> None:
    own = dict(POLICIES[config.policy].parameters)
    for option in OPTIONS.values():
        own |= option.parameters if getattr(config, option.switch) is not None else {}
    # A divergence of the user's own may take any parameter but a policy's.
    may_take_others = config.divergence not in DIVERGENCES
    if not may_take_others:
        own |= DIVERGENCES[config.divergence].parameters
    for name, owners in parameter_owners().items():
        value = getattr(config, name)
        if value is None or (may_take_others and name not in own | _policy_parameters()):
            continue
        if name not in own:
            raise ValueError(
                f"{name} belongs to {', '.join(owners)}, but got {name}={value} with "
                f"divergence '{config.divergence}' and policy '{config.policy}'. "
                "Leave it out"
            )
        own[name].check(name, value)


def _check_options(config: LossFields) -> None:
    row = DIVERGENCES.get(config.divergence)
    for option in OPTIONS.values():
        is_used = getattr(config, option.switch) is not None
        if is_used and not option.row_local and row is not None and row.couples_rows:
            raise ValueError(
                f"{option.switch} must be left out with divergence '{config.divergence}', which "
                "compares all rows of a batch with one another, but got "
                f"{option.switch}={getattr(config, option.switch)}. Leave it out"
            )


def _policy_parameters() -> dict[str, Parameter]:
    """Every parameter that some policy has, with its row in one of them."""
    return {name: row for traits in POLICIES.values() for name, row in traits.parameters.items()}


def parameter_owners() -> dict[str, list[str]]:
    """Returns each parameter of the catalogue with the divergences, policies and options that have
    it."""
    owners: dict[str, list[str]] = {}
    for table in (DIVERGENCES, POLICIES):
        for row_name, row in table.items():
            for name in row.parameters:
                owners.setdefault(name, []).append(str(row_name))
    for option in OPTIONS.values():
        for name in option.parameters:
            owners.setdefault(name, []).append(f"any divergence with {option.switch}")
    return owners


def _check_order(config: LossFields) -> None:
    """Whatever the divergence: one of the user's own may take these parameters too."""
    for low, high in LIMITED_BY.items():
        least, most = getattr(config, low), getattr(config, high)
        if least is not None and most is not None and least > most:
            raise ValueError(f"{low} <= {high} must hold, but got {low}={least}, {high}={most}")


def _check_something_is_learnt(config: Loss) -> None:
    """A loss, or a divergence, of which every part has the weight 0 teaches nothing."""
    has_sequence_term = config.sequence_term != SequenceTerm.NONE
    parts = ("hard_weight", "soft_weight", *(("sequence_weight",) if has_sequence_term else ()))
    _check_weights(config, NotAllZero(parts, "nothing is learnt"))
    row = DIVERGENCES.get(config.divergence)
    if row is not None and row.not_all_zero is not None:
        _check_weights(config, row.not_all_zero)


def _check_weights(config: LossFields, rule: NotAllZero) -> None:
    names = rule.names
    if any(getattr(config, name) != 0 for name in names):
        return
    got = "both 0" if len(names) == 2 else ", ".join(f"{name}=0" for name in names)
    raise ValueError(
        f"{' + '.join(names)} > 0 must hold, or {rule.or_else}, but got {got}. Use a positive one"
    )
