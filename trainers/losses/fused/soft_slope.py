"""Value and gradient of the soft loss in closed form, for a block of rows."""

from dataclasses import replace

import torch
from torch import Tensor

from trainers.losses.fused.closed_form import CLOSED_FORMS, gated_forward_kl
from trainers.losses.fused.closed_parts import DivergenceInput
from trainers.losses.fused.unscaled import LABEL_WEIGHTS, UNSCALED
from trainers.losses.passes import BatchSettings
from trainers.losses.policies import Softened
from trainers.losses.rescale import pull_back
from trainers.losses.soft_term import SoftTerm
from trainers.trial.traits import Scaling

# The power of tau in each scaling that a learned temperature goes with.
POWERS = {Scaling.NONE: 0, Scaling.TAU: 1, Scaling.TAU_SQUARED: 2}


def soft_slope(
    term: SoftTerm,
    logits: Tensor,
    teacher: Tensor,
    column: Tensor,
    settings: BatchSettings,
    temperature: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Returns the soft loss [C], soft_weight times its gradient with respect to the unsoftened
    logits [C, V], and of a part that is the label's cross-entropy, which shares the hard loss's
    gradient and is in neither, the weight [C, 1]. `temperature`: where a gradient with respect to
    a learned temperature is added to; `logits` may be overwritten."""
    name, kept = term.config.divergence, settings.kept
    softened = term.softened(logits, teacher, settings)
    if kept is not None:
        softened = replace(softened, weight=softened.weight * kept)
    pull = None if temperature is None else torch.zeros_like(softened.weight)
    given = DivergenceInput(
        softened.student,
        softened.teacher,
        column,
        term.parameters,
        pull,
        by_student=settings.by_student,
        skew=settings.skew,
        unsoftened=teacher,
        hard_rest=term.hard_rest,
    )
    # Before the divergence, which may overwrite what is given.
    share = LABEL_WEIGHTS[name](given) if name in LABEL_WEIGHTS else None
    unscaled = UNSCALED[name](logits, given) if name in UNSCALED else None
    value, slope = _scaled(term, softened, given, settings, temperature)
    if unscaled is not None:
        factor = 1.0 if kept is None else kept
        value = value + factor * unscaled[0]
        factor = factor * torch.full_like(value, term.config.soft_weight)
        slope.addcmul_(unscaled[1], factor.unsqueeze(-1))
    return value, slope, share if share is None or kept is None else share * kept.unsqueeze(-1)


def _scaled(
    term: SoftTerm,
    softened: Softened,
    given: DivergenceInput,
    settings: BatchSettings,
    temperature: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Returns value and gradient, as `soft_slope` does, of what the policy scales."""
    student, weight, pull = given.student, softened.weight, given.pull
    added = None
    if term.gate is not None:
        given = replace(given, logs=given.log_probabilities())
        factor = (term.config.soft_weight * weight / softened.tau_s).unsqueeze(-1)
        # Before the divergence, as above.
        more, further = gated_forward_kl(term.gate, given, factor)
        added = weight * more, further
    if settings.row_weight is not None:
        weight = weight * settings.row_weight
    if settings.mix is not None:
        # As `labelled.interpolated`; the target is a constant, so the slope is forward KL's.
        target = torch.lerp(student, given.teacher, settings.mix.to(student.dtype))
        given = replace(given, teacher=target, logs=None)
    # The softened logits are z / tau_s: 1 / tau_s of the gradient comes from there.
    coefficient = term.config.soft_weight * weight / softened.tau_s
    value, slope = CLOSED_FORMS[term.config.divergence](given, coefficient.unsqueeze(-1))
    value = weight * value
    if added is not None:
        value, slope = value + added[0], slope.add_(added[1])
    if pull is not None and temperature is not None:
        # d/dtau of tau^power D(z / tau, v / tau): power / tau times the loss through the
        # scaling, less what comes through the student's and the teacher's softened logits.
        power = POWERS[term.config.scaling or Scaling.NONE]
        by_temperature = power * term.config.soft_weight * value / softened.tau_s
        by_temperature -= torch.linalg.vecdot(slope, student) + coefficient * pull
        temperature += by_temperature.sum()
    if softened.slope is not None:
        # `pull_back` wants rows that sum to 0, which a gradient has where a constant added to
        # the logits does not matter: for every divergence.
        slope = pull_back(slope, student, softened.slope)
    return value, slope
