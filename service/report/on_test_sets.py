"""What chosen trials score on test sets, which report once and never select
(`docs/evaluation.md`)."""

from service.record.records import RunRecord
from service.report.numbers import decimals, number_cell
from service.report.page import Cell, Row, Section, Table
from service.report.source import Source
from service.results.standings import config_name

PREFIX = "test/"
WAITING = (
    "No trial was reported on {sets} yet: kd-sweep evaluate {sweep}/NUMBER does it, once, for one "
    "that was chosen by the validation split."
)
ONCE = "Selection is by the validation split; these sets were only reported on, for chosen trials."


def test_sets(source: Source) -> Section | None:
    """Returns a table for each set, and which of those that the sweep names no trial was evaluated
    on; None where there are none."""
    sets: dict[str, list[RunRecord]] = {}
    for record in source.records:
        for name in dict.fromkeys(map(set_of, record.metrics)):
            if name is not None:
                sets.setdefault(name, []).append(record)
    waiting = [name for name in source.test_sets if name not in sets]
    if not sets and not waiting:
        return None
    tables = tuple(_table(source, name, records) for name, records in sorted(sets.items()))
    told = [ONCE] if sets else []
    told += [WAITING.format(sets=", ".join(waiting), sweep=source.sweep_id)] if waiting else []
    return Section("test-sets", "On test sets", tuple(told), tables=tables)


def set_of(metric: str) -> str | None:
    """Returns the set that a metric is of; None for one of the validation split or of training."""
    if not metric.startswith(PREFIX):
        return None
    return metric.removeprefix(PREFIX).rpartition("/")[0] or None


def _table(source: Source, name: str, records: list[RunRecord]) -> Table:
    begin = f"{PREFIX}{name}/"
    known = dict.fromkeys(
        metric
        for one in records
        for metric in one.metrics
        if set_of(metric) == name and one.metric(metric) is not None
    )
    places = {metric: decimals(one.metric(metric) for one in records) for metric in known}
    rows = tuple(
        Row(
            (
                Cell(str(one.trial)),
                Cell(config_name(one)),
                *(number_cell(one.metric(metric), places[metric]) for metric in known),
            )
        )
        for one in records
    )
    return Table(
        f"test-{name}",
        name,
        ("trial", "config", *(metric.removeprefix(begin) for metric in known)),
        rows,
        command=f"kd-sweep trials {source.sweep_id} --json",
    )
