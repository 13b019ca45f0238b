"""The picture of a sweep: objective against temperature, CIST beside it, as one HTML page. Pure.

The page holds plotly's script once, so it opens without a network.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from service.record.records import RunRecord
from service.results.evidence import Evidence
from service.results.findings import Finding, sentences
from service.results.standings import MAXIMIZE, Standing, front
from service.states import FINISHED, TrialState
from service.words import describe

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Okabe and Ito's colours, told apart with every kind of colour vision; shapes and dashes repeat the
# same distinction for print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SHAPES = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
GREY = "#595959"
HARD_LOSS_ONLY = "hard loss only"  # as the control is called
NOTE = "a mark is a trial, open: stopped early; lines: means of completed trials; star: {}"
LINE = 120  # characters of a line under the title
# Temperatures and ratios of interest span less than two decades: plotly would name three or four.
TICKS = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 32, 64)


@dataclass(frozen=True)
class Axis:
    """A hyperparameter that plays the temperature's part, and the policies that have it."""

    field: str
    title: str


AXES = (
    Axis("tau", "temperature tau (fixed)"),
    Axis("rho", "CIST ratio rho"),
    Axis("rho_per_log_vocab", "CIST ratio rho / ln V"),
)


def temperature_page(evidence: Evidence, findings: Sequence[Finding], *, title: str) -> str:
    """Returns an HTML page: the objective of the finished trials against tau, a line per divergence
    through those that completed, and against CIST's rho beside it where it was tried; under the
    title what was found first. Open marks: stopped early; dashed level: the control `hard loss
    only`; star: the trials of the best config, or with two objectives of the Pareto front.
    """
    return page(temperature_figure(evidence, findings, title=title), title)


def page(figure: "Figure", title: str) -> str:
    """Returns the figure as an HTML page that needs no network."""
    body = figure.to_html(
        full_html=False,
        include_plotlyjs="inline",
        div_id="figure",
        config={"displaylogo": False, "responsive": True},
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_escaped(title)}</title></head>\n"
        f'<body style="margin:0;background:white">{body}</body></html>\n'
    )


def temperature_figure(
    evidence: Evidence, findings: Sequence[Finding] = (), *, title: str
) -> "Figure":
    """Returns the figure of `temperature_page`."""
    from plotly.subplots import make_subplots

    records, (metric, direction) = evidence.records, evidence.objectives[0]
    shown = [one for one in records if one.state in FINISHED and one.metric(metric) is not None]
    axes = [axis for axis in AXES if any(_is_on(one, axis) for one in shown)] or [AXES[0]]
    figure = make_subplots(rows=1, cols=len(axes), shared_yaxes=True, horizontal_spacing=0.04)
    styles = _styles(shown)
    named: set[str] = set()
    for column, axis in enumerate(axes, start=1):
        for series, members in _series(shown, axis).items():
            traces = _traces(members, axis, metric, styles[series])
            # An empty line, where no trial completed, is left out of the legend.
            named_by = next(trace for trace in traces if len(trace.x))
            for trace in traces:
                trace.name, trace.legendgroup = series, series
                trace.showlegend = series not in named and trace is named_by
                figure.add_trace(trace, row=1, col=column)
            named.add(series)
        figure.update_xaxes(type="log", title=axis.title, row=1, col=column)
    _mark_best(figure, evidence, axes, metric)
    _mark_hard_loss(figure, shown, metric)
    figure.update_yaxes(range=_range([one.metric(metric) or 0.0 for one in shown]))
    note = NOTE.format("on the Pareto front" if len(evidence.objectives) > 1 else "the best")
    notes = [*sentences(findings[:1]), note, _left_out(records, metric)]
    _lay_out(figure, title, f"{metric} ({_better(direction)})", notes)
    return figure


def _is_on(record: RunRecord, axis: Axis) -> bool:
    """The hard loss alone has a temperature in its config, but does not use it."""
    return record.config.get(axis.field) is not None and not _is_hard_only(record)


def _is_hard_only(record: RunRecord) -> bool:
    return record.config.get("soft_weight") == 0


def _series_of(record: RunRecord) -> str:
    """A line for each divergence; teacher-only temperature is another line of the same."""
    policy = record.config.get("policy")
    return f"{record.config.get('divergence')}{', teacher only' * (policy == 'fixed_teacher')}"


def _series(records: Sequence[RunRecord], axis: Axis) -> dict[str, list[RunRecord]]:
    groups: dict[str, list[RunRecord]] = {}
    for record in sorted(records, key=lambda one: float(one.config.get(axis.field) or 0)):
        if _is_on(record, axis):
            groups.setdefault(_series_of(record), []).append(record)
    return dict(sorted(groups.items()))


def _styles(records: Sequence[RunRecord]) -> dict[str, tuple[str, str, str]]:
    names = sorted({_series_of(record) for record in records})
    return {
        name: (
            COLOURS[index % len(COLOURS)],
            SHAPES[index % len(SHAPES)],
            DASHES[index % len(DASHES)],
        )
        for index, name in enumerate(names)
    }


def _traces(
    members: Sequence[RunRecord], axis: Axis, metric: str, style: tuple[str, str, str]
) -> list[Any]:
    """Returns the line through the mean of the completed trials at each temperature, and a mark for
    each trial."""
    from plotly.graph_objects import Scatter

    colour, shape, dash = style
    means: dict[float, list[float]] = {}
    for record in members:
        if record.state is TrialState.COMPLETED:
            means.setdefault(record.config[axis.field], []).append(record.metric(metric) or 0.0)
    line = Scatter(
        x=list(means),
        y=[fmean(values) for values in means.values()],
        mode="lines+markers",
        line={"color": colour, "dash": dash, "width": 2},
        marker={"symbol": shape, "size": 1, "color": colour},
        hoverinfo="skip",
    )
    open_shapes = [
        shape if record.state == TrialState.COMPLETED else f"{shape}-open" for record in members
    ]
    marks = Scatter(
        x=[record.config[axis.field] for record in members],
        y=[record.metric(metric) for record in members],
        mode="markers",
        marker={"symbol": open_shapes, "size": 10, "color": colour, "line": {"width": 2}},
        text=[_hover(record, metric) for record in members],
        hovertemplate="%{text}<extra></extra>",
    )
    return [line, marks]


def _hover(record: RunRecord, metric: str) -> str:
    name = record.label or describe(record.hyperparameters)
    return (
        f"<b>trial {record.trial}</b> {_escaped(name)}<br>"
        f"{metric} {record.metric(metric):.4g}, {str(record.state).replace('_', ' ')}"
    )


def _mark_best(figure: "Figure", evidence: Evidence, axes: Sequence[Axis], metric: str) -> None:
    from plotly.graph_objects import Scatter

    for column, axis in enumerate(axes, start=1):
        best = [
            (trial.config[axis.field], trial.metric(metric))
            for standing in _best(evidence, metric, axes)
            for trial in standing.trials
            if _is_on(trial, axis)
        ]
        if best:
            figure.add_trace(
                Scatter(
                    x=[x for x, _ in best],
                    y=[y for _, y in best],
                    mode="markers",
                    marker={"symbol": "star-open", "size": 24, "color": "black"},
                    name="best",
                    hoverinfo="skip",
                ),
                row=1,
                col=column,
            )


def _best(evidence: Evidence, metric: str, axes: Sequence[Axis]) -> list[Standing]:
    """Returns the best of the configs that are drawn, or those on the Pareto front."""
    drawn = [
        one for one in evidence.ranked(metric) if any(_is_on(one.trials[0], axis) for axis in axes)
    ]
    return front(drawn, evidence.objectives) if len(evidence.objectives) > 1 else drawn[:1]


def _mark_hard_loss(figure: "Figure", shown: Sequence[RunRecord], metric: str) -> None:
    levels = [
        record.metric(metric) or 0.0
        for record in shown
        if _is_hard_only(record) and record.state is TrialState.COMPLETED
    ]
    if levels:
        figure.add_hline(
            y=fmean(levels),
            line={"color": GREY, "dash": "dash", "width": 1.5},
            exclude_empty_subplots=False,
            annotation={
                "text": HARD_LOSS_ONLY,
                "font": {"color": GREY, "size": 13},
                "bgcolor": "rgba(255,255,255,0.8)",
            },
            annotation_position="bottom right",
        )


def _range(values: Sequence[float]) -> list[float] | None:
    """Returns the values' range with a margin: plotly's own forgets the level of the hard loss."""
    if not values:
        return None
    margin = 0.06 * (max(values) - min(values)) or 0.1
    return [min(values) - margin, max(values) + margin]


def _left_out(records: Sequence[RunRecord], metric: str) -> str:
    counts: dict[str, int] = {}
    for record in records:
        if record.state in FINISHED and record.metric(metric) is not None:
            continue
        state = "without a value" if record.state in FINISHED else str(record.state)
        counts[state] = counts.get(state, 0) + 1
    words = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    return f"not shown: {words}" if words else ""


def _better(direction: str) -> str:
    return "higher is better" if direction == MAXIMIZE else "lower is better"


def _lay_out(figure: "Figure", title: str, y_title: str, notes: Sequence[str]) -> None:
    lines = [_escaped(line) for note in notes for line in textwrap.wrap(note, LINE)]
    figure.update_yaxes(title=y_title, col=1)
    labels = [f"{tick:g}" for tick in TICKS]
    figure.update_xaxes(tickvals=TICKS, ticktext=labels, showline=True, linecolor=GREY, mirror=True)
    figure.update_yaxes(showline=True, linecolor=GREY, mirror=True)
    figure.update_layout(
        template="plotly_white",
        title={
            "text": "<br>".join([_escaped(title), *(f"<sup>{line}</sup>" for line in lines)]),
            "x": 0.02,
            "y": 0.94,
            "yanchor": "top",
        },
        font={"family": "system-ui, sans-serif", "size": 15, "color": "#1a1a1a"},
        legend={
            "title": "divergence",
            "orientation": "h",
            "y": -0.22,
            "yanchor": "top",
            "itemsizing": "constant",
        },
        margin={"l": 80, "r": 30, "t": 60 + 30 * len(lines), "b": 130},
        height=590 + 30 * len(lines),
    )


def _escaped(text: str) -> str:
    replacements: Mapping[str, str] = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
    return "".join(replacements.get(letter, letter) for letter in text)
