"""Whether a cache that is not exact tells the temperatures of a sweep apart. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.errors import PlanError
from service.plan.estimates import InputFacts
from service.spec.document import SweepSpec
from trainers.trial.config import TrialConfig
from trainers.trial.traits import Policy

# A row as `trainers.teachers.bias` measures it.
Row = Mapping[str, Any]
# The divergence whose gradient a tail enters by its probabilities alone, which are small.
BY_PROBABILITY = "forward_kl"


@dataclass(frozen=True)
class Bias:
    """The largest error among what a sweep tries: of the soft loss's gradient, relative to it; at:
    the temperature in words."""

    error: float
    at: str


def known_errors(spec: SweepSpec, facts: InputFacts, stored: Sequence[str]) -> tuple[str, ...]:
    """Returns what the caches that are there already, of those that trials read (`stored`), say of
    their errors and of the teacher's. Raises `PlanError` as `check_bias`."""
    texts = [
        text
        for each in facts.caches
        if each.stored in stored
        for text in (
            check_bias(spec, each.stored, each.bias, facts.vocab_size or 0),
            conversion_text(spec, each.conversion, facts.vocab_size or 0),
        )
    ]
    return tuple(dict.fromkeys(filter(None, texts)))


def check_bias(spec: SweepSpec, storage: str, rows: Sequence[Row], vocab_size: int) -> str:
    """Returns a sentence on how far trials are off that read a cache of that storage; empty where
    it was not measured. Raises `PlanError` where that is more than the sweep allows."""
    if not rows:
        return ""
    worst, limit = worst_bias(spec, rows, vocab_size), spec.teacher_cache.max_bias
    if worst.error > limit:
        raise PlanError(
            f"teacher_cache: trials that read {storage} must have the soft loss's gradient within "
            f"max_bias={limit:g} of the teacher's own, but got {worst.error:.2g} at {worst.at}, as "
            "measured on a sample: such a cache does not tell these temperatures apart. Store more "
            "(a larger top_k, another dtype, or neither, which is exact), search other "
            f"temperatures, or allow it: teacher_cache.max_bias: {_above(worst.error):g}."
        )
    return (
        f"the teacher's cache stores {storage}: the soft loss's gradient is off by at most "
        f"{worst.error:.2g} of itself (at {worst.at}, measured on a sample)"
    )


def conversion_text(spec: SweepSpec, rows: Sequence[Row], vocab_size: int) -> str:
    """Returns a sentence on how far the teacher that is asked is from the one that is stored; empty
    where that was not measured. None is refused: all trials ask the same teacher, and it tells
    temperatures apart as well as the other."""
    if not rows:
        return ""
    worst = worst_bias(spec, rows, vocab_size)
    return (
        "the teacher is asked in a narrower dtype than that of its weights: the soft loss's "
        f"gradient is at most {worst.error:.2g} of itself away from the full one's (at {worst.at}, "
        "measured on a sample)"
    )


def worst_bias(spec: SweepSpec, rows: Sequence[Row], vocab_size: int) -> Bias:
    """Returns the largest error at the temperatures of the trials that stand for all, each between
    the measured ones around it."""
    configs = {_key(config): config for config in map(spec.trial_config, spec.points())}
    found = [
        Bias(_error(config, row), _name(row))
        for config in configs.values()
        for row in _around(config, rows, vocab_size)
    ]
    return max(found, key=lambda each: each.error)


def _key(config: TrialConfig) -> tuple[Any, ...]:
    return config.policy, config.divergence, config.tau, config.rho, config.rho_per_log_vocab


def _around(config: TrialConfig, rows: Sequence[Row], vocab_size: int) -> list[Row]:
    """Returns the rows that enclose the config's temperature; those of every tau for a policy that
    has one of its own for each position or batch."""
    policy, at = Policy.FIXED, config.tau
    if config.policy == Policy.CIST:
        policy, at = Policy.CIST, config.rho_per_log_vocab
        if config.rho is not None:
            at = config.rho / math.log(vocab_size)
    measured = sorted((row for row in rows if row["policy"] == policy), key=lambda row: row["at"])
    if at is None:
        return measured
    below = [row for row in measured if row["at"] <= at][-1:]
    above = [row for row in measured if row["at"] >= at][:1]
    return below + above


def _error(config: TrialConfig, row: Row) -> float:
    forward, reverse = float(row["forward"]), float(row["reverse"])
    return forward if config.divergence == BY_PROBABILITY else max(forward, reverse)


def _name(row: Row) -> str:
    name = "tau" if row["policy"] == Policy.FIXED else "rho_per_log_vocab"
    return f"{name} {row['at']:g}"


def _above(error: float) -> float:
    """A round number that allows the error."""
    step = 10.0 ** (math.floor(math.log10(error)) - 1)
    return math.ceil(error / step) * step
