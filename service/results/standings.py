"""Configs, seeds apart, and how they stand under a metric: what wins is a config by the mean over
its seeds, never the luckiest seed's trial. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from service.record.records import RunRecord
from service.states import TrialState
from service.statistics.corrections import holm
from service.statistics.intervals import mean_interval
from service.statistics.paired import PairedTest, paired_by_seed
from service.words import describe
from trainers.trial.metrics import sign_of

SEED = "seed"
SHOWN_TRIALS = 5


@dataclass(frozen=True)
class Standing:
    """A config under one metric. `trials`: those that completed with a finite value, by number, one
    a seed; `mean`: over them; `low`, `high`: its 95 % interval (Student's t), None for one trial.
    """

    name: str
    metric: str
    trials: tuple[RunRecord, ...]
    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def is_control(self) -> bool:
        """Whether one of its trials is a control."""
        return any(trial.label is not None for trial in self.trials)

    @property
    def is_searched(self) -> bool:
        """Whether the sampler proposed one of its trials, or a study lists it."""
        return any(trial.is_searched for trial in self.trials)

    @property
    def typical(self) -> RunRecord:
        """The trial nearest to the mean, the earliest of equals: the one to show and to export."""
        return min(self.trials, key=lambda one: abs((one.metric(self.metric) or 0.0) - self.mean))

    @property
    def values(self) -> list[float]:
        """The metric of each trial."""
        return [trial.metric(self.metric) or 0.0 for trial in self.trials]

    @property
    def seeds(self) -> set[int]:
        """The seeds of its trials."""
        return {trial.seed for trial in self.trials}

    def average(self, metric: str) -> float | None:
        """Returns the mean of another metric over those of its trials that have it, or None."""
        found = [value for trial in self.trials if (value := trial.metric(metric)) is not None]
        return fmean(found) if found else None

    def title(self) -> str:
        """Returns e.g. `forward_kl tau=2 (trials 3 and 7)`."""
        return f"{self.name} ({trials_text([trial.trial for trial in self.trials])})"


def standings(
    configs: Mapping[str, Sequence[RunRecord]], metric: str, direction: str
) -> list[Standing]:
    """Returns those of `configs` (`by_config`) with a completed trial that has a finite value, the
    best first, of equals the earliest. Those with half as many seeds as the most repeated one, or
    fewer, come behind the others: a single lucky seed wins against no mean."""
    sign = sign_of(direction)
    found = [
        standing
        for name, group in configs.items()
        if (standing := _standing(name, group, metric)) is not None
    ]
    most = max((len(one.trials) for one in found), default=0)
    return sorted(
        found,
        key=lambda one: (2 * len(one.trials) <= most, -sign * one.mean, one.trials[0].trial),
    )


def by_config(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Returns the trials of each config, seeds apart, under a name for people that is unique.
    Trials that only chose a study's learning rates are of none."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        if record.is_tuning:
            continue
        key = {name: value for name, value in record.config.items() if name != SEED}
        groups.setdefault(json.dumps(key, sort_keys=True, default=str), []).append(record)
    named: dict[str, list[RunRecord]] = {}
    for group in groups.values():
        name = config_name(group[0])
        named[name if name not in named else f"{name} (trial {group[0].trial})"] = group
    return named


def config_name(record: RunRecord) -> str:
    """Returns a trial's config for people, its seed apart."""
    values = {k: v for k, v in record.hyperparameters.items() if k != SEED}
    return record.label or describe(values)


def pair_by_seed(
    first: Sequence[RunRecord], second: Sequence[RunRecord], metric: str
) -> PairedTest | None:
    """Returns the test of second - first over the seeds that both have with a finite value, or None
    when they share none."""
    return paired_by_seed(by_seed(first, metric), by_seed(second, metric))


def corrected(
    base: Sequence[RunRecord], others: Mapping[str, Sequence[RunRecord]], metric: str
) -> dict[str, tuple[PairedTest, float | None, int]]:
    """Returns for each of `others` that shares a seed with `base` its test against it, its p after
    Holm's correction over all of them, and over how many that is; None for one without a p."""
    tests = {
        name: test
        for name, trials in others.items()
        if (test := pair_by_seed(base, trials, metric)) is not None
    }
    p_values = {name: one.p_value for name, one in tests.items() if one.p_value is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return {name: (test, adjusted.get(name), len(p_values)) for name, test in tests.items()}


def by_seed(trials: Sequence[RunRecord], metric: str) -> dict[int, float]:
    """Returns seed → value of those that have a finite one; of equal seeds the last."""
    return {record.seed: value for record in trials if (value := record.metric(metric)) is not None}


def front(ranked: Sequence[Standing], objectives: Sequence[tuple[str, str]]) -> list[Standing]:
    """Returns those of `ranked` that no other one beats under all of `objectives` (metric,
    direction), in the same order: the Pareto front."""
    found = [one for one in ranked if all(one.average(name) is not None for name, _ in objectives)]
    points = [_point(one, objectives) for one in found]
    return [
        one
        for one, point in zip(found, points, strict=True)
        if not any(_dominates(other, point) for other in points)
    ]


def trials_text(numbers: Sequence[int]) -> str:
    """Returns e.g. `trial 3`, `trials 3, 7 and 9`, or `trials 3, 7, 9, 11, 12 and 4 more`."""
    if len(numbers) == 1:
        return f"trial {numbers[0]}"
    shown = [str(number) for number in numbers[:SHOWN_TRIALS]]
    more = len(numbers) - len(shown)
    shown += [f"{more} more"] if more else []
    return f"trials {', '.join(shown[:-1])} and {shown[-1]}"


def _standing(name: str, group: Sequence[RunRecord], metric: str) -> Standing | None:
    valued = [
        one for one in group if one.state is TrialState.COMPLETED and one.metric(metric) is not None
    ]
    if not valued:
        return None
    trials = valued if len(valued) == 1 else _one_a_seed(valued)
    found = mean_interval([one.metric(metric) or 0.0 for one in trials])
    return Standing(name, metric, tuple(trials), found.mean, found.low, found.high)


def _one_a_seed(trials: Sequence[RunRecord]) -> list[RunRecord]:
    """Returns the first trial of each seed, by number: the same config and seed again gives the
    same bits, and is no other measurement."""
    ordered = sorted(trials, key=lambda one: one.trial)
    of_seed = {one.seed: one for one in reversed(ordered)}
    return [one for one in ordered if of_seed[one.seed] is one]


def _point(standing: Standing, objectives: Sequence[tuple[str, str]]) -> list[float]:
    """Returns its values with signs that make more better."""
    return [
        sign_of(direction) * (standing.average(metric) or 0.0) for metric, direction in objectives
    ]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
