"""Trials that came to nothing, and those to be wary of."""

from service.record.records import RunRecord
from service.report.page import Cell, Row, Section, Table
from service.report.source import Source
from service.results.standings import config_name
from service.states import TrialState
from service.words import brief
from trainers.trial.diagnosis import logit_scale_warning

FAILED = (TrialState.FAILED, TrialState.DIVERGED, TrialState.CANCELLED)
WHY = {
    TrialState.FAILED: "not known",
    TrialState.DIVERGED: "the loss became NaN or infinite",
    TrialState.CANCELLED: "stopped by its user",
}
MOST_ROWS = 15


def failures(source: Source) -> Section:
    """Returns the section; a line says so where nothing failed."""
    failed = [one for one in source.trained if one.state in FAILED]
    warned = [
        (one, text)
        for one in source.trained
        if (text := logit_scale_warning(one.metrics)) is not None
    ]
    rows = [_row(one, brief(one.tags.get("error", "")) or WHY[one.state]) for one in failed]
    wary = [_row(one, text) for one, text in warned]
    tables = (
        _table(source, "failures", "Failed, diverged, cancelled", rows),
        _table(source, "warnings", "Finished, but to be wary of", wary),
    )
    text = "" if failed else "No trial failed, diverged or was cancelled."
    return Section(
        "failures",
        "Failures and warnings",
        (text,) if text else (),
        tables=tuple(table for table in tables if table.rows),
    )


def _row(record: RunRecord, why: str) -> Row:
    return Row(
        (
            Cell(str(record.trial), record.trial),
            Cell(str(record.state).replace("_", " ")),
            Cell(config_name(record)),
            Cell(why),
        )
    )


def _table(source: Source, name: str, title: str, rows: list[Row]) -> Table:
    more = len(rows) - MOST_ROWS
    return Table(
        name,
        title,
        ("trial", "state", "config", "why"),
        tuple(rows[:MOST_ROWS]),
        note=f"{more} more are not shown." if more > 0 else "",
        command=f"kd-sweep logs {source.sweep_id} --trial N",
    )
