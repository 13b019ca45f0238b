"""What a plan warns of: allowed, and yet worth knowing before the sweep is paid for. Pure."""

import math
from collections.abc import Iterator
from typing import Any

from search_spaces.domains import Float, Int
from search_spaces.space import SearchSpace
from service.estimates import InputFacts
from service.spec import SweepSpec
from trainers.catalogue import Policy, Scaling

FLAT_TEACHER = 0.5
TEMPERATURES = ("tau", "rho", "rho_per_log_vocab")


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


def rho_of(space: SearchSpace, vocab_size: int | None) -> tuple[float, float] | None:
    """Returns the range of rho that a searched `rho_per_log_vocab` means for this vocabulary."""
    domain = space.domains.get("rho_per_log_vocab")
    if vocab_size is None or not isinstance(domain, Float | Int):
        return None
    return domain.low * math.log(vocab_size), domain.high * math.log(vocab_size)


def _flat_teacher(space: SearchSpace, facts: InputFacts) -> Iterator[str]:
    share = facts.teacher_entropy_share
    if share is not None and share > FLAT_TEACHER and "tau" in space.domains:
        yield (
            f"the teacher is flat: its entropy at tau = 1 is {share:.2f} of ln V. Such a teacher "
            "often gains little from tau > 1: keep tau < 1 in the range."
        )


def _hidden_soft_weight(spec: SweepSpec, space: SearchSpace) -> Iterator[str]:
    searched = [name for name in TEMPERATURES if name in space.domains]
    scalings = values_of(spec, space, "scaling")
    policies = values_of(spec, space, "policy")
    # A temperature of the teacher alone leaves no 1/tau in the student's gradient.
    if searched and Scaling.NONE in scalings and policies != [Policy.FIXED_TEACHER]:
        yield (
            f"scaling none with a searched {searched[0]}: under Adam this also searches the soft : "
            "hard ratio, with SGD the learning rate; clipping interacts. Leave scaling out to "
            "compare temperatures alone."
        )


def _duplicates(spec: SweepSpec, space: SearchSpace) -> Iterator[str]:
    divergences = set(values_of(spec, space, "divergence"))
    if {"concrete_score", "reverse_kl"} <= divergences:
        yield (
            "concrete_score has exactly tau² times the gradient of reverse_kl, so both are one "
            "family: keep one of them."
        )


def _free_scale(spec: SweepSpec, space: SearchSpace) -> Iterator[str]:
    if True in values_of(spec, space, "detach_student_temperature"):
        yield (
            "detach_student_temperature leaves the student's logit scale to the hard loss alone; "
            "it can drift until training collapses. Watch logit_scale_ratio."
        )
