"""What a plan warns of: allowed, and still worth knowing before the sweep is paid for. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from service.plan.duplicates import duplicates
from service.plan.estimates import InputFacts
from service.spec.document import SweepSpec
from trainers.trial.catalogue import DIVERGENCES, POLICIES
from trainers.trial.config import TrialConfig
from trainers.trial.rules import parameter_owners
from trainers.trial.traits import Scaling

Trial = tuple[dict[str, Any], TrialConfig]
FLAT_TEACHER = 0.5
TEMPERATURES = ("tau", "rho", "rho_per_log_vocab")


def cautions(spec: SweepSpec, facts: InputFacts) -> Iterator[str]:
    """Yields a sentence for each thing to look at before the sweep runs."""
    trials = [(dict(values), spec.trial_config(values)) for values in spec.points()]
    yield from spec.sampler.check(spec.search, len(spec.objective))
    yield from _flat_teacher(trials, facts)
    yield from _hidden_soft_weight(trials)
    yield from _idle_search(trials, spec.varied_names())
    if spec.data.teacher_text is not None and spec.teacher_text is None:
        yield (
            "data.teacher_text is given, and no trial learns from it: set text.responses: teacher, "
            "or search responses."
        )
    yield from duplicates(spec)
    yield from _free_scale(trials)
    yield from _overflow(trials)


def _flat_teacher(trials: Sequence[Trial], facts: InputFacts) -> Iterator[str]:
    share = facts.teacher_entropy_share
    taus = [config.tau for values, config in trials if "tau" in values and config.tau is not None]
    if share is not None and share > FLAT_TEACHER and taus and min(taus) >= 1:
        yield (
            f"the teacher is flat: its entropy at tau = 1 is {share:.2f} of ln V. Such a teacher "
            "often gains little from tau > 1: let the range begin below 1."
        )


def _hidden_soft_weight(trials: Sequence[Trial]) -> Iterator[str]:
    varied = {name for name in TEMPERATURES if _num_values(trials, name) > 1}
    for values, config in trials:
        searched = [name for name in TEMPERATURES if name in varied & values.keys()]
        has_ratio = config.hard_weight > 0 and config.soft_weight > 0
        # A temperature of the teacher alone leaves no 1/tau in the student's gradient.
        is_of_both = POLICIES[config.policy].softens_student
        if searched and config.scaling == Scaling.NONE and has_ratio and is_of_both:
            yield (
                f"scaling none with a searched {searched[0]}: under Adam this also searches the "
                "soft : hard ratio, with SGD the learning rate; clipping interacts. Leave scaling "
                "out to compare temperatures alone."
            )
            return


def _num_values(trials: Sequence[Trial], name: str) -> int:
    return len({values[name] for values, _ in trials if values.get(name) is not None})


def _idle_search(trials: Sequence[Trial], names: Sequence[str]) -> Iterator[str]:
    of_soft_loss = {"divergence", "policy", "scaling", *parameter_owners()}
    idle = [name for name in names if name in of_soft_loss]
    if idle and all(config.soft_weight == 0 for _, config in trials):
        yield (
            "soft_weight 0 leaves the teacher out of the loss, so that searching "
            f"{' and '.join(idle)} changes nothing: give a positive soft_weight."
        )


def _free_scale(trials: Sequence[Trial]) -> Iterator[str]:
    if any(config.detach_student_temperature for _, config in trials):
        yield (
            "detach_student_temperature leaves the student's logit scale to the hard loss alone; "
            "it can drift until training collapses. Watch logit_scale_ratio."
        )


def _overflow(trials: Sequence[Trial]) -> Iterator[str]:
    for _, config in trials:
        row = DIVERGENCES.get(config.divergence)
        if row is None or row.overflows_below is None:
            continue
        powers = {name: getattr(config, name) for name in row.parameters}
        negative = [
            f"{name} {value:g}" for name, value in powers.items() if value < row.overflows_below
        ]
        if negative:
            yield (
                f"{config.divergence} with {' and '.join(negative)}: a negative power of a small "
                "probability can overflow, and the trial diverges. Use 0 to 1."
            )
            return
