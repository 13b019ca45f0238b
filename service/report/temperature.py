"""The objective against the temperature: a line for each divergence, CIST beside it, controls."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from service.plan.trials import HARD_LOSS
from service.record.records import RunRecord
from service.report import charts
from service.report.charts import Figure, Trace
from service.report.crossing import (
    crossing_labels,
    crossing_marks,
    crossing_sentences,
    crossings_of,
)
from service.report.page import Chart, Section
from service.report.palette import colour
from service.report.series import (
    AXES,
    Styles,
    TemperatureAxis,
    grouped,
    is_hard_only,
    place_on,
    styles,
)
from service.report.source import Source
from service.results.standings import Standing, front
from service.states import FINISHED, TrialState
from service.statistics.crossover import Crossing

# With more temperatures than this a line through each of them would show luck alone.
MOST_POINTS = 12
CROWD = 60  # trials of a line, whose marks are small
BINS_PER_OCTAVE = 2
MOST_TOLD = 8  # of what lies beyond the picture
# How far beyond the trials a level may lie, in their range, to be drawn with them.
NEAR = 0.25
NO_TEMPERATURE = "No finished trial has a temperature."


@dataclass(frozen=True)
class Point:
    """A point of a line: where, the mean, half of its 95 % interval where one is known."""

    place: float
    mean: float
    half: float | None


@dataclass(frozen=True)
class Level:
    """A score without a temperature, drawn as a level."""

    name: str
    value: float
    dash: str


@dataclass(frozen=True)
class Frame:
    """What the charts side by side share. ends: of their vertical axes."""

    styles: Styles
    levels: Sequence[Level]
    ends: list[float] | None
    crossings: tuple[Crossing, ...]


def temperature(source: Source) -> Section:
    """Returns the section with a chart for each kind of temperature that was tried."""
    tried = [one for one in AXES if any(place_on(record, one) for record in source.shown)]
    levels = _levels(source)
    ends = charts.value_range([*_drawn_values(source), *(one.value for one in levels)])
    frame = Frame(styles(source), levels, ends, crossings_of(source))
    drawn = tuple(_chart(source, one, frame) for one in tried)
    text = [NO_TEMPERATURE] if not tried else [_reading(source)]
    text += crossing_sentences(source)
    text += [line for line in (_left_out(source), _far(source, levels)) if line]
    return Section("temperature", "Objective against temperature", tuple(text), charts=drawn)


def points(source: Source, members: Sequence[RunRecord], axis: TemperatureAxis) -> list[Point]:
    """Returns the line through a series: at each temperature the mean of what completed there, with
    the config's interval over seeds where one config is there; of many temperatures the mean of
    each half octave. members: along the axis."""
    placed = [
        (place, one)
        for one in members
        if one.state is TrialState.COMPLETED and (place := place_on(one, axis)) is not None
    ]
    if len({place for place, _ in placed}) > MOST_POINTS:
        return _binned(source, placed)
    return [
        _point(source, place, [one for _, one in group])
        for place, group in groupby(placed, key=lambda pair: pair[0])
    ]


def _point(source: Source, place: float, records: Sequence[RunRecord]) -> Point:
    here = {one.run_id for one in records}
    (first, *others) = [
        one for one in source.ranked if any(trial.run_id in here for trial in one.trials)
    ]
    if others:
        return Point(place, fmean(one.metric(source.metric) or 0.0 for one in records), None)
    half = None if first.high is None else first.high - first.mean
    return Point(place, first.mean, half)


def _binned(source: Source, placed: Sequence[tuple[float, RunRecord]]) -> list[Point]:
    bins: dict[int, list[tuple[float, float]]] = {}
    for place, one in placed:
        number = math.floor(BINS_PER_OCTAVE * math.log2(place))
        bins.setdefault(number, []).append((math.log2(place), one.metric(source.metric) or 0.0))
    return [
        Point(2 ** fmean(x for x, _ in found), fmean(y for _, y in found), None)
        for _, found in sorted(bins.items())
    ]


def _chart(source: Source, axis: TemperatureAxis, frame: Frame) -> Chart:
    places = [place for one in source.shown if (place := place_on(one, axis)) is not None]
    crossed = frame.crossings if axis is AXES[0] else ()
    layout = charts.chart_layout(
        axis.title,
        source.metric,
        {
            "yaxis": {"range": frame.ends},
            "shapes": [*map(_line, frame.levels), *crossing_marks(crossed)],
            "annotations": [*map(_label, frame.levels), *crossing_labels(crossed)],
            "margin": {"t": 24},
        },
    )
    layout["xaxis"] = charts.log_axis(axis.title, places)
    data = [*_lines(source, axis, frame.styles), *_best(source, axis)]
    return Chart(
        f"objective-{axis.name}",
        f"{source.metric} against {axis.title}",
        {"data": data, "layout": layout},
        caption=source.better(),
        command=f"kd-sweep trials {source.sweep_id} --json",
    )


def _lines(source: Source, axis: TemperatureAxis, found: Styles) -> list[Trace]:
    """Returns what is drawn of each series, each of them once in the legend."""
    traces: list[Trace] = []
    named: set[str] = set()
    for series, members in grouped(source.shown, axis).items():
        name = found.name(series)
        drawn = _traces(source, members, axis, found.of(series))
        # The line, but for one whose trials were all stopped early.
        named_by = next(trace for trace in reversed(drawn) if trace["x"])
        for trace in drawn:
            is_named = trace is named_by and name not in named
            traces.append(trace | {"name": name, "legendgroup": name, "showlegend": is_named})
        named.add(name)
    return traces


def _traces(
    source: Source,
    members: Sequence[RunRecord],
    axis: TemperatureAxis,
    style: tuple[str, str, str],
) -> list[Trace]:
    """Returns a series' line with its intervals, and a mark for each trial."""
    shade, shape, dash = style
    line = points(source, members, axis)
    halves = [one.half for one in line]
    through: Trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [one.place for one in line],
        "y": [one.mean for one in line],
        "line": {"color": shade, "dash": dash, "width": 2},
        "marker": {"color": shade, "symbol": shape, "size": 9 if any(halves) else 1},
        "hoverinfo": "skip",
    }
    if any(half is not None for half in halves):
        bars = [half or 0.0 for half in halves]
        through["error_y"] = {"type": "data", "array": bars, "color": shade, "thickness": 1.5}
    is_repeated, is_crowded = any(halves), len(members) > CROWD
    marks: Trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [place_on(one, axis) for one in members],
        "y": [one.metric(source.metric) for one in members],
        "marker": {
            "symbol": [f"{shape}-open" if charts.is_open(one) else shape for one in members],
            "size": 5 if is_repeated or is_crowded else 8,
            "color": shade,
            "opacity": 0.55 if is_repeated or is_crowded else 0.85,
        },
        "text": [charts.hover(one, source.metric) for one in members],
        "hovertemplate": "%{text}<extra></extra>",
    }
    return [marks, through]


def _best(source: Source, axis: TemperatureAxis) -> list[Trace]:
    """Returns a ring around the best config, or around each on the Pareto front."""
    marked = [
        (place, one.mean)
        for one in _winners(source)
        if (place := place_on(one.trials[0], axis)) is not None
    ]
    ring: Trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [place for place, _ in marked],
        "y": [mean for _, mean in marked],
        "marker": {
            "symbol": "circle-open",
            "size": 19,
            "color": colour("ink"),
            "line": {"width": 2},
        },
        "name": "best",
        "showlegend": False,
        "hoverinfo": "skip",
    }
    return [ring] if marked else []


def _winners(source: Source) -> list[Standing]:
    objectives = source.evidence.objectives
    if len(objectives) > 1:
        return front(source.ranked, objectives)
    return [] if source.winner is None else [source.winner]


def _levels(source: Source) -> list[Level]:
    """Returns the scores that are drawn as levels: those far from all trials are told instead."""
    found = []
    values = _drawn_values(source)
    hard = [
        one.metric(source.metric) or 0.0
        for one in source.shown
        if is_hard_only(one) and one.state is TrialState.COMPLETED
    ]
    if hard:
        found.append(Level(HARD_LOSS, fmean(hard), "dash"))
    if values:
        reach = NEAR * (max(values) - min(values))
        found += [
            one
            for one in _of_the_models(source)
            if min(values) - reach <= one.value <= max(values) + reach
        ]
    return found


def _drawn_values(source: Source) -> list[float]:
    return charts.without_outliers([one.metric(source.metric) or 0.0 for one in source.shown])


def _of_the_models(source: Source) -> list[Level]:
    of = {"teacher": source.evidence.teacher, "undistilled student": source.evidence.undistilled}
    return [
        Level(name, scores[source.metric], "dot")
        for name, scores in of.items()
        if source.metric in scores
    ]


def _line(level: Level) -> Figure:
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": level.value,
        "y1": level.value,
        "line": {"color": colour("soft"), "dash": level.dash, "width": 1.3},
        "layer": "below",
    }


def _label(level: Level) -> Figure:
    return {
        "text": level.name,
        "xref": "paper",
        "x": 1,
        "xanchor": "right",
        "y": level.value,
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 12, "color": colour("soft")},
        "bgcolor": colour("page"),
        "opacity": 0.85,
    }


def _reading(source: Source) -> str:
    repeated = any(one.high is not None for one in source.ranked)
    line = (
        "Lines: means over seeds with 95 % intervals (Student’s t); dots: single seeds"
        if repeated
        else "Dots: trials, one seed each, so that no interval is known; lines: their means"
    )
    many = any(
        len({place_on(one, axis) for one in members}) > MOST_POINTS
        for axis in AXES
        for members in grouped(source.shown, axis).values()
    )
    if many:
        line = "Dots: trials; lines: means of those that completed in each half octave"
    stopped = any(charts.is_open(one) for one in source.shown)
    line += "; open marks: stopped early" if stopped else ""
    ring = "the best config" if len(source.evidence.objectives) == 1 else "the Pareto front"
    return f"{line}; ring: {ring}."


def _left_out(source: Source) -> str:
    counts: dict[str, int] = {}
    for record in source.records:
        is_finished = record.state in FINISHED
        if is_finished and record.metric(source.metric) is not None:
            continue
        state = "without a value" if is_finished else str(record.state)
        counts[state] = counts.get(state, 0) + 1
    words = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    return f"Not shown: {words}." if words else ""


def _far(source: Source, levels: Sequence[Level]) -> str:
    """Tells what lies too far from the trials to be drawn with them."""
    drawn, values = {one.name for one in levels}, _drawn_values(source)
    far = [(one.name, one.value) for one in _of_the_models(source) if one.name not in drawn]
    trials = [(f"trial {one.trial}", one.metric(source.metric) or 0.0) for one in source.shown]
    far += [(name, value) for name, value in trials if value not in values]
    listed = ", ".join(f"{name} {value:.4g}" for name, value in far[:MOST_TOLD])
    more = f" and {len(far) - MOST_TOLD} more" if len(far) > MOST_TOLD else ""
    return f"Beyond the picture: {listed}{more}." if far and source.shown else ""
