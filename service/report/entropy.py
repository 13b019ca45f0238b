"""The entropy of the teacher's soft labels: what CIST is said to make alike, beside what it did to
the objective."""

from collections.abc import Callable, Sequence

from service.record.records import RunRecord
from service.report import charts
from service.report.charts import Figure, Trace
from service.report.page import Chart, Section
from service.report.palette import colour
from service.report.series import AXES, is_hard_only, place_on
from service.report.source import Source

MEAN, STD = "teacher_entropy_mean", "teacher_entropy_std"
X_MEAN = "mean entropy of soft labels, nats"
Y_STD = "std over positions, nats"
MATCHED = (
    "A policy that sharpens every position has a small spread for nothing: compare spreads where "
    "the mean entropies are alike."
)

PROBE_STD, EQUAL = "probe/soft_entropy_std", "probe/matched_entropy_std"
DIAGONAL = (
    "Below the diagonal, soft labels are more alike in entropy than one temperature of the same "
    "mean makes them."
)

Place = Callable[[RunRecord], float | None]


def entropy(source: Source) -> Section | None:
    """Returns the section, or None where no trial has these entropies."""
    measured = [
        one
        for one in source.shown
        if one.metric(MEAN) is not None and one.metric(STD) is not None and not is_hard_only(one)
    ]
    if not measured:
        return None
    drawn = [
        _chart(source, measured, "entropy-matched", "Spread of entropy against its mean", _MATCHED),
        _chart(source, measured, "entropy-objective", f"{source.metric} against spread", _WORTH),
    ]
    drawn += _at_equal_mean(source, measured)
    for axis in AXES[1:]:
        on_axis = [one for one in measured if place_on(one, axis) is not None]
        if on_axis:
            drawn.append(_against_rho(source, on_axis, axis.name))
    return Section("entropy", "Entropy of the soft labels", (MATCHED,), charts=tuple(drawn))


_MATCHED = (MEAN, X_MEAN, STD, Y_STD)
_WORTH = (STD, Y_STD, "", "")


def _against_rho(source: Source, records: Sequence[RunRecord], name: str) -> Chart:
    axis = next(one for one in AXES if one.name == name)
    places = [place_on(one, axis) or 1.0 for one in records]
    traces = _marks(source, records, lambda one: place_on(one, axis), lambda one: one.metric(STD))
    layout = charts.chart_layout("", Y_STD)
    layout["xaxis"] = charts.log_axis(axis.title, places)
    return Chart(
        f"entropy-{name}",
        f"Spread of entropy against {axis.title}",
        {"data": traces, "layout": layout},
        command=f"kd-sweep trials {source.sweep_id} --json",
    )


def _at_equal_mean(source: Source, records: Sequence[RunRecord]) -> list[Chart]:
    """Returns the spread beside that of one temperature for all positions with the same mean, where
    trials were looked at (`docs/diagnostics.md`)."""
    looked = [one for one in records if None not in (one.metric(PROBE_STD), one.metric(EQUAL))]
    if not looked:
        return []
    marks = _marks(source, looked, lambda one: one.metric(EQUAL), lambda one: one.metric(PROBE_STD))
    largest = 1.05 * max(value for trace in marks for value in (*trace["x"], *trace["y"]))
    diagonal: Trace = {
        "type": "scatter",
        "mode": "lines",
        "x": [0, largest],
        "y": [0, largest],
        "line": {"color": colour("soft"), "dash": "dash", "width": 1.2},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    layout = charts.chart_layout("std under one temperature, nats", "std of the trial, nats")
    return [
        Chart(
            "entropy-equal-mean",
            "Spread of entropy at the same mean",
            {"data": [diagonal, *marks], "layout": layout},
            caption=DIAGONAL,
            command=f"kd-sweep trials {source.sweep_id} --json",
        )
    ]


def _chart(
    source: Source,
    records: Sequence[RunRecord],
    name: str,
    title: str,
    axes: tuple[str, str, str, str],
) -> Chart:
    x, x_title, y, y_title = axes
    caption = "" if y else source.better()
    y, y_title = y or source.metric, y_title or source.metric
    traces = _marks(source, records, lambda one: one.metric(x), lambda one: one.metric(y))
    figure: Figure = {"data": traces, "layout": charts.chart_layout(x_title, y_title)}
    command = f"kd-sweep trials {source.sweep_id} --json"
    return Chart(name, title, figure, caption=caption, command=command)


def _marks(source: Source, records: Sequence[RunRecord], x: Place, y: Place) -> list[Trace]:
    """Returns a trace of marks for each policy."""
    policies = sorted({str(one.config.get("policy")) for one in records})
    traces = []
    for index, policy in enumerate(policies):
        shade, shape, _ = charts.style_of(index)
        group = [one for one in records if str(one.config.get("policy")) == policy]
        marks: Trace = {
            "type": "scatter",
            "mode": "markers",
            "name": policy.replace("_", " "),
            "showlegend": True,
            "x": [x(one) for one in group],
            "y": [y(one) for one in group],
            "marker": {
                "symbol": [f"{shape}-open" if charts.is_open(one) else shape for one in group],
                "size": 8,
                "color": shade,
                "opacity": 0.8,
            },
            "text": [charts.hover(one, source.metric) for one in group],
            "hovertemplate": "%{text}<extra></extra>",
        }
        traces.append(marks)
    return traces
