"""What the trials are compared with: teacher, undistilled student, controls, floor."""

from collections.abc import Mapping

from service.report.numbers import columns_of, number_cell
from service.report.page import Cell, Role, Row, Section, Table
from service.report.source import Source
from service.results.best import references
from service.results.standings import Standing

Scores = Mapping[str, float]
MISSING = (
    "The scores of the teacher and of the undistilled student are not in the record of this sweep."
)


def comparison(source: Source) -> Section:
    """Returns the scores of those that are no searched config, with the best one beside them."""
    lines = _lines(source)
    metrics = _metrics(source, [scores for _, scores, _ in lines])
    values = [[scores.get(metric) for metric in metrics] for _, scores, _ in lines]
    places = columns_of(values)
    rows = tuple(
        Row((Cell(name), *map(number_cell, row, places)), role)
        for (name, _, role), row in zip(lines, values, strict=True)
    )
    table = Table(
        "references",
        "Scores on the validation split",
        ("", *metrics),
        rows,
        note="Floor: what the best config's answers reach against references of other prompts."
        if any(name == "floor" for name, _, _ in lines)
        else "",
        command=f"kd-sweep best --sweep {source.sweep_id}",
    )
    has_scores = source.evidence.teacher or source.evidence.undistilled
    text = () if has_scores else (MISSING,)
    return Section("references", "What it is compared with", text, tables=(table,) if rows else ())


def _lines(source: Source) -> list[tuple[str, Scores, Role]]:
    found = references(source.evidence)
    floor = found.pop("floor", None)
    lines: list[tuple[str, Scores, Role]] = [
        (name, scores, "reference") for name, scores in found.items()
    ]
    lines += [
        (one.name, _means(one, source), "control") for one in source.ranked if _is_control(one)
    ]
    if source.winner is not None:
        lines.append((f"best: {source.winner.title()}", _means(source.winner, source), "best"))
    if floor is not None:
        lines.append(("floor", floor, "reference"))
    return lines


def _is_control(standing: Standing) -> bool:
    return standing.is_control and not standing.is_searched


def _means(standing: Standing, source: Source) -> dict[str, float]:
    means = {name: standing.average(name) for name in source.evidence.metrics}
    return {name: mean for name, mean in means.items() if mean is not None}


def _metrics(source: Source, lines: list[Scores]) -> list[str]:
    """Returns the columns: objectives, what ranks, what stands beside rankings; as measured."""
    known = source.evidence.metrics
    names = [name for name, _ in source.evidence.objectives]
    names += [name for name, one in known.items() if one.direction or one.beside_rankings]
    return [name for name in dict.fromkeys(names) if any(name in scores for scores in lines)]
