"""Where reverse KL passes forward KL over temperature, for each set of configs that differ in
nothing else. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.record.conditions import value_of
from service.record.records import RunRecord
from service.results.standings import SEED, by_seed
from service.states import TrialState
from service.statistics.crossover import Crossover, Curve, crossover
from service.words import describe

FIRST, SECOND = "forward_kl", "reverse_kl"
TAU, DIVERGENCE = "tau", "divergence"


@dataclass(frozen=True)
class CurvePair:
    """Two divergences over tau. where: what sets their configs apart from those of other pairs of
    curves, in words; empty where there is one pair."""

    first: str
    second: str
    where: str
    found: Crossover

    def sentence(self) -> str:
        """Returns what may be said, for people."""
        text = self.found.sentence(self.first, self.second)
        return f"{text} ({self.where})" if self.where else text

    def to_json(self) -> dict[str, Any]:
        """Returns the pair as one JSON object."""
        return {
            "first": self.first,
            "second": self.second,
            "where": self.where,
            "taus": list(self.found.tests),
            "crossings": [
                {"tau": one.tau, "low": one.low, "high": one.high, "several": one.several}
                for one in self.found.crossings
            ],
            "unsure": list(self.found.unsure),
            "sentence": self.sentence(),
        }


def crossovers(records: Sequence[RunRecord], metric: str) -> tuple[CurvePair, ...]:
    """Returns a pair for each set of completed trials that differ in divergence, tau and seed alone
    and hold both forward and reverse KL at two temperatures that both have."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        if _counts(record, metric):
            groups.setdefault(json.dumps(_rest(record), sort_keys=True), []).append(record)
    found = []
    for group in groups.values():
        curves = (_curve(group, name, metric) for name in (FIRST, SECOND))
        crossing = crossover(*curves)
        if crossing is not None:
            found.append((group[0], crossing))
    apart = _apart([record for record, _ in found])
    return tuple(
        CurvePair(FIRST, SECOND, _where(record, apart), crossing) for record, crossing in found
    )


def _counts(record: RunRecord, metric: str) -> bool:
    is_measured = record.state is TrialState.COMPLETED and record.metric(metric) is not None
    return is_measured and not record.is_tuning


def _rest(record: RunRecord) -> dict[str, Any]:
    """Returns the config but for what curves are made of, and what was tuned at each point."""
    made_of = (SEED, TAU, DIVERGENCE, record.tuned)
    rest = {name: value for name, value in record.config.items() if name not in made_of}
    return rest | {"sweep": record.sweep_id}


def _curve(records: Sequence[RunRecord], divergence: str, metric: str) -> Curve:
    of_tau: dict[float, list[RunRecord]] = {}
    for record in records:
        tau = value_of(record, TAU)
        if tau is not None and value_of(record, DIVERGENCE) == divergence:
            of_tau.setdefault(float(tau), []).append(record)
    return {tau: by_seed(trials, metric) for tau, trials in of_tau.items()}


def _apart(records: Sequence[RunRecord]) -> list[str]:
    """Returns the names by which these differ."""
    rests = [_rest(record) for record in records]
    names = dict.fromkeys(name for rest in rests for name in rest)
    return [name for name in names if len({json.dumps(rest.get(name)) for rest in rests}) > 1]


def _where(record: RunRecord, apart: Sequence[str]) -> str:
    return describe({name: _rest(record).get(name) for name in apart}) if apart else ""
