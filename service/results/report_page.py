"""What a sweep found as a page of Markdown, which MLflow shows beside the sweep's run. Pure."""

from service.record.records import RunRecord
from service.results.best import Best, Row
from service.words import describe, number


def report_page(sweep_id: str, best: Best) -> str:
    """Returns the page: what was found in sentences, the weightiest first; the best configs beside
    what they are compared with; and what to ask next."""
    found = "\n".join(f"* {line}" for line in best.lines)
    return f"{found}\n\n{_table(best)}\n\n`kd-sweep best --sweep {sweep_id}` shows more.\n"


def _table(best: Best) -> str:
    lines = [f"| | {best.metric} | trial |", "|---|---|---|"]
    lines += [f"| {_name(row)} | {_cell(row.value)} | {row.record.trial} |" for row in best.rows]
    for name, scores in best.references.items():
        lines.append(f"| {name} | {_cell(scores.get(best.metric))} | |")
    return "\n".join(lines)


def _name(row: Row) -> str:
    if row.standing is not None:
        return row.standing.name
    return f"{_config(row.record)} (stopped early)"


def _config(record: RunRecord) -> str:
    return record.label or describe(record.hyperparameters)


def _cell(value: float | None) -> str:
    return "–" if value is None else number(float(value))
