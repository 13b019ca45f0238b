"""Trials side by side: what differs, their metrics, and what their seeds allow to say. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.errors import SpecError
from service.record.records import RunRecord
from service.results.statistics import PairedTest, paired_test
from service.words import describe
from trainers.files.json_files import checked_object, parse_json

if TYPE_CHECKING:
    from pandas import DataFrame

# Besides the config, what may explain a difference; names of tags, see `tags.py`.
SURROUNDINGS = (
    "code_version",
    "device",
    "world_size",
    "teacher_source",
    "numerics",
    "versions",
)
PREFIXES = ("fingerprint.", "provenance.")
SEED = "seed"


@dataclass(frozen=True)
class Pairing:
    """Two configs that were trained with the same seeds, under one metric."""

    metric: str
    first: str
    second: str
    test: PairedTest


@dataclass(frozen=True)
class Comparison:
    """Trials as columns: `differs` holds a row for each fact that is not the same in all of them,
    `metrics` a row for each metric that one of them has (None where it is missing or not finite).
    """

    records: tuple[RunRecord, ...]
    differs: dict[str, list[Any]]
    metrics: dict[str, list[float | None]]
    pairings: tuple[Pairing, ...]

    def names(self) -> list[str]:
        """Returns a heading for each trial: `SWEEP/NUMBER`."""
        return [f"{record.sweep_id}/{record.trial}" for record in self.records]

    def to_frame(self) -> "DataFrame":
        """Returns a table with a row for each trial: what differs, then the metrics."""
        from pandas import DataFrame

        return DataFrame(self.differs | self.metrics, index=self.names())

    def to_json(self) -> dict[str, Any]:
        """Returns the comparison as one JSON object."""
        return {
            "runs": [record.to_json() for record in self.records],
            "differs": self.differs,
            "metrics": self.metrics,
            "pairings": [
                {
                    "metric": one.metric,
                    "first": one.first,
                    "second": one.second,
                    "num_pairs": one.test.num_pairs,
                    "mean_difference": one.test.mean_difference,
                    "low": one.test.low,
                    "high": one.test.high,
                    "p_value": one.test.p_value,
                }
                for one in self.pairings
            ],
        }


def compare(records: Sequence[RunRecord]) -> Comparison:
    """Returns what differs between `records`, the metrics of all, and tests paired by seed where
    several configs share seeds. Raises `SpecError` for fewer than two.
    """
    if len(records) < 2:
        raise SpecError(
            f"compare: at least two runs are needed, but got {len(records)}. Name another one."
        )
    facts = [_facts(record) for record in records]
    names = list(dict.fromkeys(name for fact in facts for name in fact))
    rows = {name: [fact.get(name) for fact in facts] for name in names}
    metrics = sorted({name for record in records for name in record.metrics})
    return Comparison(
        tuple(records),
        {name: row for name, row in rows.items() if any(value != row[0] for value in row)},
        {name: [record.metric(name) for record in records] for name in metrics},
        tuple(_pairings(records, metrics)),
    )


def _facts(record: RunRecord) -> dict[str, Any]:
    facts: dict[str, Any] = {"state": str(record.state)} | record.config
    for name in SURROUNDINGS:
        if name in record.tags:
            facts |= _spread(name, record.tags[name])
    return facts | {name: text for name, text in record.tags.items() if name.startswith(PREFIXES)}


def _spread(name: str, text: str) -> dict[str, Any]:
    """A tag that holds a JSON object becomes one fact for each of its entries."""
    try:
        values = checked_object(parse_json(text, name), name)
    except ValueError:  # a plain text, or one that was edited
        return {name: text}
    return {f"{name}.{key}": value for key, value in values.items()}


def _pairings(records: Sequence[RunRecord], metrics: Sequence[str]) -> list[Pairing]:
    cells = by_config(records)
    if len(cells) < 2 or all(len(cell) < 2 for cell in cells.values()):
        return []
    (first, base), *others = cells.items()
    found = []
    for name, cell in others:
        for metric in metrics:
            test = pair_by_seed(base, cell, metric)
            if test is not None:
                found.append(Pairing(metric, first, name, test))
    return found


def by_config(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Returns the trials of each config, seeds apart, under a name for people that is unique."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        key = {name: value for name, value in record.config.items() if name != SEED}
        groups.setdefault(json.dumps(key, sort_keys=True, default=str), []).append(record)
    named: dict[str, list[RunRecord]] = {}
    for group in groups.values():
        values = {k: v for k, v in group[0].hyperparameters.items() if k != SEED}
        name = group[0].label or describe(values)
        named[name if name not in named else f"{name} (trial {group[0].trial})"] = group
    return named


def pair_by_seed(
    first: Sequence[RunRecord], second: Sequence[RunRecord], metric: str
) -> PairedTest | None:
    """Returns the test of second - first over the seeds that both have with a finite value, or None
    when they share none."""
    a = {record.seed: record.metric(metric) for record in first}
    b = {record.seed: record.metric(metric) for record in second}
    pairs = [(a[seed], b[seed]) for seed in sorted(a.keys() & b.keys())]
    finite = [(x, y) for x, y in pairs if x is not None and y is not None]
    if not finite:
        return None
    return paired_test([x for x, _ in finite], [y for _, y in finite])
