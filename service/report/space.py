"""What was searched at a glance: parallel coordinates, and with two objectives the Pareto front."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.record.records import RunRecord
from service.report import charts
from service.report.charts import Figure, Trace
from service.report.page import GAP, Chart, Section
from service.report.palette import NUM_RANKS, colour
from service.report.source import Source
from service.results.standings import front
from service.words import shortened
from trainers.trial.metrics import sign_of

FEWEST_TRIALS, MOST_AXES, MOST_NAMES = 5, 8, 12
FAINT_FROM = 100  # lines; more of them would hide each other
MISSING = -0.14  # where on an axis a line passes whose trial has no such hyperparameter
RANKS = ("worst fifth", "", "middle", "", "best fifth")


@dataclass(frozen=True)
class Column:
    """One axis of parallel coordinates. places: of each trial, 0 to 1, `MISSING` where it has no
    such value; ticks: place and name."""

    name: str
    places: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]


def space(source: Source) -> Section | None:
    """Returns the section, or None where there are too few trials for a picture."""
    made = (_pareto(source), _importance(source), _parallel(source))
    drawn = [one for one in made if one is not None]
    if not drawn:
        return None
    return Section("space", "What was searched", charts=tuple(drawn))


def _parallel(source: Source) -> Chart | None:
    records = [one for one in source.shown if one.is_searched]
    names = dict.fromkeys(name for one in records for name in one.hyperparameters)
    columns = [
        column for name in names if (column := column_of(source, records, name)) is not None
    ][:MOST_AXES]
    if len(columns) < 2 or len(records) < FEWEST_TRIALS:
        return None
    values = [one.metric(source.metric) or 0.0 for one in records]
    columns.append(_numbers(source.metric, values, is_log=False))
    traces = _lines(records, columns, ranks(values, source.sign), source.metric)
    layout = charts.chart_layout(
        "", "", {"height": charts.HEIGHT + 20, "margin": {"l": 46, "r": 46}}
    )
    layout["xaxis"] = {
        "tickvals": list(range(len(columns))),
        "ticktext": [charts.escaped(one.name) for one in columns],
        "showgrid": False,
        "zeroline": False,
        "range": [-0.3, len(columns) - 0.55],
        "side": "top",
        "automargin": True,
    }
    layout["yaxis"] = {"visible": False, "range": [MISSING - 0.05, 1.05]}
    layout["shapes"] = [_upright(place) for place in range(len(columns))]
    layout["annotations"] = [
        _tick(place, at, text) for place, one in enumerate(columns) for at, text in one.ticks
    ]
    return Chart(
        "parallel",
        "Trials as lines through their values",
        {"data": traces, "layout": layout},
        caption=f"Coloured by fifths of {source.metric}; at the bottom are trials without such a "
        "hyperparameter.",
        command=f"kd-sweep trials {source.sweep_id} --json",
        is_wide=True,
        least_width=130 * len(columns),
    )


def column_of(source: Source, records: Sequence[RunRecord], name: str) -> Column | None:
    """Returns the axis of a hyperparameter; None where it has one value alone, or too many names
    to be told apart."""
    values = [one.hyperparameters.get(name) for one in records]
    known = [value for value in values if value is not None]
    if len({str(value) for value in known}) < 2:
        return None
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        is_log = bool(getattr(source.evidence.domains.get(name), "log", False))
        return _numbers(name, values, is_log=is_log and min(known) > 0)
    names = sorted({str(value) for value in known})
    if len(names) > MOST_NAMES:
        return None
    at = {text: index / (len(names) - 1) for index, text in enumerate(names)}
    places = tuple(MISSING if value is None else at[str(value)] for value in values)
    return Column(name, places, _with_missing(places, [(at[text], text) for text in names]))


def _numbers(name: str, values: Sequence[Any], *, is_log: bool) -> Column:
    scaled = [
        None if value is None else (math.log(value) if is_log else float(value)) for value in values
    ]
    known = [value for value in scaled if value is not None]
    low, high = min(known), max(known)
    width = (high - low) or 1.0
    places = tuple(MISSING if value is None else (value - low) / width for value in scaled)
    ends = [low, (low + high) / 2, high]
    ticks = [
        (place, math.exp(at) if is_log else at) for place, at in zip((0, 0.5, 1), ends, strict=True)
    ]
    named = [(float(place), f"{at:.3g}") for place, at in ticks]
    return Column(name, places, _with_missing(places, named))


def _with_missing(
    places: Sequence[float], ticks: Sequence[tuple[float, str]]
) -> tuple[tuple[float, str], ...]:
    return (*ticks, *([(MISSING, GAP)] if MISSING in places else []))


def ranks(values: Sequence[float], sign: int) -> list[int]:
    """Returns the fifth of each value, 0 for the worst."""
    order = sorted(range(len(values)), key=lambda index: sign * values[index])
    found = [0] * len(values)
    for place, index in enumerate(order):
        found[index] = NUM_RANKS * place // len(values)
    return found


def _lines(
    records: Sequence[RunRecord], columns: Sequence[Column], found: Sequence[int], metric: str
) -> list[Trace]:
    """Returns a trace for each fifth, the best above: lines that gaps keep apart."""
    faint = min(1.0, (FAINT_FROM / max(1, len(records))) ** 0.5)
    traces = []
    for rank in range(NUM_RANKS):
        x: list[float | None] = []
        y: list[float | None] = []
        text: list[str] = []
        for index, record in enumerate(records):
            if found[index] == rank:
                x += [*range(len(columns)), None]
                y += [*(column.places[index] for column in columns), None]
                text += [charts.hover(record, metric)] * len(columns) + [""]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": x,
                "y": y,
                "text": text,
                "hovertemplate": "%{text}<extra></extra>",
                "name": RANKS[rank],
                "showlegend": bool(RANKS[rank]) and bool(x),
                "line": {"color": colour(f"rank-{rank}"), "width": 1 + rank * faint / 3},
                "marker": {"size": 4},
                "opacity": (0.5 + rank / 10) * faint,
            }
        )
    return traces


def _upright(place: int) -> Figure:
    line = {"color": colour("rule"), "width": 1}
    ends = {"x0": place, "x1": place, "y0": 0, "y1": 1}
    return {"type": "line", "layer": "below", "line": line, **ends}


def _tick(place: int, at: float, text: str) -> Figure:
    return {
        "x": place,
        "y": at,
        "text": charts.escaped(shortened(text, 18)),
        "showarrow": False,
        "xanchor": "left",
        "xshift": 5,
        "font": {"size": 11, "color": colour("ink")},
        "bgcolor": colour("page"),
        "opacity": 0.85,
    }


def _importance(source: Source) -> Chart | None:
    found = {} if source.significance is None else source.significance.importances
    if not found:
        return None
    names = list(reversed(found))
    bars: Trace = {
        "type": "bar",
        "orientation": "h",
        "y": [charts.escaped(shortened(name, 24)) for name in names],
        "x": [found[name] for name in names],
        "marker": {"color": colour("accent")},
        "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }
    layout = charts.chart_layout("share", "", {"height": 120 + 34 * len(names), "bargap": 0.35})
    layout["xaxis"] |= {"tickformat": ".0%", "range": [0, 1.05 * max(found.values())]}
    return Chart(
        "importance",
        "What decided which trials came out best",
        {"data": [bars], "layout": layout},
        caption="Of what was tried alone (PED-ANOVA): what a sampler narrowed down early seems to "
        "matter less than it does.",
        command=f"kd-sweep compare {source.sweep_id} --significance",
        is_wide=True,
    )


def _pareto(source: Source) -> Chart | None:
    objectives = source.evidence.objectives
    if len(objectives) < 2:
        return None
    (x, x_way), (y, y_way) = objectives[:2]
    members = front(source.ranked, objectives)
    names = {one.name for one in members}
    rest = [one for one in source.ranked if one.name not in names and one.average(y) is not None]
    ordered = sorted(members, key=lambda one: one.average(x) or 0.0)
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": mode,
            "name": name,
            "x": [one.average(x) for one in group],
            "y": [one.average(y) for one in group],
            "text": [charts.hover(one.typical, x) for one in group],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"color": shade, "size": 9, "symbol": symbol},
            "line": {"color": shade, "dash": "dot", "width": 1.5},
        }
        for name, group, mode, shade, symbol in (
            ("others", rest, "markers", colour("other"), "circle-open"),
            ("Pareto front", ordered, "lines+markers", colour("accent"), "circle"),
        )
    ]
    layout = charts.chart_layout(
        f"{x} ({charts.better(sign_of(x_way))})", f"{y} ({charts.better(sign_of(y_way))})"
    )
    return Chart(
        "pareto",
        "The Pareto front",
        {"data": traces, "layout": layout},
        command=f"kd-sweep best --sweep {source.sweep_id}",
        is_wide=True,
    )
