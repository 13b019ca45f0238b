"""What a plan warns of: allowed, and yet worth knowing before the sweep is paid for. Pure."""

import math
from collections.abc import Iterator
from typing import Any

from search_spaces.domains import Domain, Float, Int
from search_spaces.space import SearchSpace
from service.estimates import InputFacts
from service.spec import SweepSpec
from service.spec_checks import samples
from trainers.catalogue import DIVERGENCES, TWINS, Policy, Scaling

FLAT_TEACHER = 0.5
TEMPERATURES = ("tau", "rho", "rho_per_log_vocab")
RHOS = {"rho": "rho_per_log_vocab", "rho_per_log_vocab": "rho"}


def cautions(spec: SweepSpec, facts: InputFacts) -> Iterator[str]:
    """Yields one sentence a caution."""
    space = spec.space()
    yield from spec.sampler.check(space, len(spec.objective))
    yield from _flat_teacher(space, facts)
    yield from _hidden_soft_weight(spec, space)
    yield from _duplicates(spec, space)
    yield from _free_scale(spec, space)


def values_of(spec: SweepSpec, space: SearchSpace, name: str) -> list[Any]:
    """Returns the values that a field takes in the sweep: its choices, or its one value."""
    if name in space.domains:
        return list(space.domains[name].points(2))
    return [getattr(spec.budget().model_copy(update=spec.given()), name)]


def rho_in_words(name: str, domain: Domain, vocab_size: int | None) -> str:
    """Returns what the values of rho are in units of ln V, or the other way round, for V =
    vocab_size; empty for another name, or a vocabulary that is not known yet."""
    if name not in RHOS or vocab_size is None:
        return ""
    factor = math.log(vocab_size) if name == "rho_per_log_vocab" else 1 / math.log(vocab_size)
    values = [f"{float(value) * factor:.3g}" for value in domain.points(2)]
    between = " to " if isinstance(domain, Float | Int) else ", "
    return f" ({RHOS[name]} {between.join(values)})"


def _flat_teacher(space: SearchSpace, facts: InputFacts) -> Iterator[str]:
    share = facts.teacher_entropy_share
    if share is not None and share > FLAT_TEACHER and "tau" in space.domains:
        yield (
            f"the teacher is flat: its entropy at tau = 1 is {share:.2f} of ln V. Such a teacher "
            "often gains little from tau > 1: keep tau < 1 in the range."
        )


def _hidden_soft_weight(spec: SweepSpec, space: SearchSpace) -> Iterator[str]:
    if Scaling.NONE not in values_of(spec, space, "scaling"):
        return
    for values in samples(space):
        searched = [name for name in TEMPERATURES if name in values]
        config = spec.trial_config(values)
        # A temperature of the teacher alone leaves no 1/tau in the student's gradient.
        if searched and config.scaling == Scaling.NONE and config.policy != Policy.FIXED_TEACHER:
            yield (
                f"scaling none with a searched {searched[0]}: under Adam this also searches the "
                "soft : hard ratio, with SGD the learning rate; clipping interacts. Leave scaling "
                "out to compare temperatures alone."
            )
            return


def _duplicates(spec: SweepSpec, space: SearchSpace) -> Iterator[str]:
    divergences = set(values_of(spec, space, "divergence"))
    for name, parameters, other in TWINS:
        is_met = all(
            value in _listed_values(space, name, parameter)
            for parameter, value in parameters.items()
        )
        if {name, other} <= divergences and is_met:
            words = " and ".join(f"{parameter} {value}" for parameter, value in parameters.items())
            yield (
                f"{name} with {words} has exactly the gradient of {other}, so that both are one "
                "point, tried twice: keep one of them."
            )


def _listed_values(space: SearchSpace, divergence: str, parameter: str) -> list[Any]:
    """Returns the values that a divergence's parameter takes; none of a range, whose ends are drawn
    by chance only."""
    domain = space.domains.get(parameter)
    if domain is None:
        return [DIVERGENCES[divergence].parameters[parameter].default]
    return [] if isinstance(domain, Float) else list(domain.points(2))


def _free_scale(spec: SweepSpec, space: SearchSpace) -> Iterator[str]:
    if True in values_of(spec, space, "detach_student_temperature"):
        yield (
            "detach_student_temperature leaves the student's logit scale to the hard loss alone; "
            "it can drift until training collapses. Watch logit_scale_ratio."
        )
