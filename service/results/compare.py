"""Trials side by side: what differs, their metrics, and what their seeds allow to say. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.errors import SpecError
from service.record.records import RunRecord
from service.results.significance import Significance
from service.results.standings import by_config, corrected
from service.states import TrialState
from service.statistics.paired import PairedTest
from trainers.files.json_files import checked_object, parse_json
from trainers.trial.probe import is_diagnostic

if TYPE_CHECKING:
    from pandas import DataFrame

# Besides the config, what may explain a difference; names of tags, see `tags.py`.
SURROUNDINGS = (
    "code_version",
    "device",
    "world_size",
    "sharding",
    "teacher_source",
    "numerics",
    "versions",
)
PREFIXES = ("fingerprint.", "provenance.")


@dataclass(frozen=True)
class Pairing:
    """Two configs that were trained with the same seeds, under one metric; adjusted: the test's p
    after Holm's correction over the `num_tested` configs that are compared with the same one under
    it, None where there is no p."""

    metric: str
    first: str
    second: str
    test: PairedTest
    adjusted: float | None
    num_tested: int

    def sentence(self) -> str:
        """Returns what may be said, for people."""
        said = self.test.sentence(self.adjusted, self.num_tested)
        return f"{self.metric}: {self.second} against {self.first}: {said}"


@dataclass(frozen=True)
class Comparison:
    """Trials as columns: `differs` holds a row for each fact that is not the same in all of them,
    `metrics` a row for each metric that one of them has (None where it is missing or not finite);
    `significance`: what their seeds say against a control, where that was asked for.
    """

    records: tuple[RunRecord, ...]
    differs: dict[str, list[Any]]
    metrics: dict[str, list[float | None]]
    pairings: tuple[Pairing, ...]
    significance: Significance | None = None

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
                    "p_holm": one.adjusted,
                }
                for one in self.pairings
            ],
            "significance": None if self.significance is None else self.significance.to_json(),
        }


def compare(records: Sequence[RunRecord], significance: Significance | None = None) -> Comparison:
    """Returns what differs between `records`, the metrics of all, and tests paired by seed where
    several configs share seeds, with what else was found of them. Raises `SpecError` for fewer than
    two.
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
        tuple(_pairings(records, [name for name in metrics if not is_diagnostic(name)])),
        significance,
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
    # A trial that early stopping ended is no measurement of what its config comes to.
    cells = by_config([one for one in records if one.state is TrialState.COMPLETED])
    if len(cells) < 2 or all(len(cell) < 2 for cell in cells.values()):
        return []
    (first, base), *others = cells.items()
    return [
        Pairing(metric, first, name, test, adjusted, num)
        for metric in metrics
        for name, (test, adjusted, num) in corrected(base, dict(others), metric).items()
    ]
