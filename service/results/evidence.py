"""What a sweep's results are judged by: its trials, what was optimised, what was searched, and how
teacher and undistilled student score themselves. Plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from search_spaces.domains import Domain
from service.record.records import RunRecord, SweepRecord
from service.record.tags import OBJECTIVE
from service.results.standings import Standing, by_config, standings
from trainers.tasks import table
from trainers.trial.metrics import MINIMIZE, Metric, sign_of

Objective = tuple[str, str]  # metric, maximize | minimize


@dataclass(frozen=True)
class Confirming:
    """A study, by its id, that trains a sweep's best configs again, and its trials."""

    study: str
    records: tuple[RunRecord, ...]


@dataclass(frozen=True)
class Evidence:
    """See the module. `objectives`: one, or two; `teacher`, `undistilled`: validation metrics of
    the teacher itself and of the student before its trials, empty where they were not measured;
    `domains`: hyperparameter → what was searched; `num_examples`: of the validation split, None
    when it is not known; `metrics`: what is known of each metric by its name; `sweep`: where they
    are from, None when it is not asked of one; `confirming`: the study of its best configs;
    `tuning`: trials that only chose learning rates of a study, which are none of `records`."""

    records: tuple[RunRecord, ...]
    objectives: tuple[Objective, ...]
    teacher: Mapping[str, float] = field(default_factory=dict)
    undistilled: Mapping[str, float] = field(default_factory=dict)
    domains: Mapping[str, Domain] = field(default_factory=dict)
    num_examples: int | None = None
    metrics: Mapping[str, Metric] = field(default_factory=table.known_metrics)
    sweep: SweepRecord | None = None
    confirming: Confirming | None = None
    tuning: tuple[RunRecord, ...] = ()

    @cached_property
    def directions(self) -> dict[str, str]:
        """The direction of each metric that ranks trials; an objective may turn its own around."""
        own = {name: str(one.direction) for name, one in self.metrics.items() if one.direction}
        return own | {OBJECTIVE: self.objectives[0][1]} | dict(self.objectives)

    @cached_property
    def configs(self) -> dict[str, list[RunRecord]]:
        """The trials of each config, seeds apart."""
        return by_config(self.records)

    def ranked(self, metric: str) -> list[Standing]:
        """Returns the configs by a metric, the best first; by one without a direction, the
        smallest first."""
        if metric not in self._ranked:
            direction = self.directions.get(metric) or MINIMIZE
            self._ranked[metric] = standings(self.configs, metric, direction)
        return self._ranked[metric]

    def winner(self, metric: str) -> Standing | None:
        """Returns the best config by a metric; None where several have it and none is better."""
        ranked = self.ranked(metric)
        all_equal = len(ranked) > 1 and ranked[0].mean == ranked[-1].mean
        return ranked[0] if ranked and not all_equal else None

    @cached_property
    def _ranked(self) -> dict[str, list[Standing]]:
        # Asked for again and again, and each takes as long as there are trials.
        return {}

    def sign(self, metric: str) -> int:
        """Returns 1 where more of the metric is better, else -1."""
        return sign_of(self.directions.get(metric))

    def known(self, metric: str) -> Metric:
        """Returns what is known of a metric: nothing of one that is in no table."""
        return self.metrics.get(metric, Metric(name=metric))
