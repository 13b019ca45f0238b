"""Learning curves: the objective on the way, of the best configs and the controls in colour and of
others in grey."""

from collections.abc import Sequence

from service.record.records import RunRecord
from service.report import charts
from service.report.charts import Figure, Trace
from service.report.page import Chart, Section
from service.report.palette import NUM_SERIES, colour
from service.report.source import Curve, Source
from service.results.standings import config_name
from service.words import shortened

NUM_BEST, MOST_CURVES, MOST_POINTS = 4, 60, 200


def chosen(source: Source) -> list[RunRecord]:
    """Returns the trials whose curves are read: the best, the controls, and an even choice of the
    others."""
    coloured = _coloured(source)
    rest = [one for one in source.records if one.metrics and one not in coloured]
    step = max(1, -(-len(rest) // max(1, MOST_CURVES - len(coloured))))
    return [*coloured, *rest[::step]]


def curves(source: Source) -> Section | None:
    """Returns the section; None where no curve is known."""
    coloured = _coloured(source)
    drawn = [one for one in source.records if len(source.curves.get(one.trial, ())) > 1]
    if not drawn:
        return None
    names = {one.trial: index for index, one in enumerate(coloured)}
    traces = [_trace(one, source.curves[one.trial], names.get(one.trial)) for one in drawn]
    # The coloured ones above the others.
    traces.sort(key=lambda trace: bool(trace["showlegend"]))
    layout = charts.chart_layout("step", source.metric, {"height": charts.HEIGHT + 40})
    figure: Figure = {"data": traces, "layout": layout}
    picture = Chart(
        "learning-curves",
        f"{source.metric} while training",
        figure,
        caption=source.better(),
        command=f"kd-sweep trials {source.sweep_id}",
        is_wide=True,
    )
    grey = len([one for one in drawn if one.trial not in names])
    text = f"In grey: {grey} of the other trials." if grey else ""
    return Section("curves", "Learning curves", (text,) if text else (), charts=(picture,))


def thinned(curve: Curve) -> Curve:
    """Returns a curve of few enough points, its ends among them."""
    step = max(1, -(-len(curve) // MOST_POINTS))
    kept = list(curve[::step])
    return kept if not curve or kept[-1] == curve[-1] else [*kept, curve[-1]]


def _coloured(source: Source) -> list[RunRecord]:
    best = [one.typical for one in source.ranked[:NUM_BEST]]
    controls = [one.typical for one in source.ranked if one.is_control and not one.is_searched]
    return list({one.trial: one for one in [*best, *controls]}.values())[:NUM_SERIES]


def _trace(record: RunRecord, curve: Curve, index: int | None) -> Trace:
    shade, _, dash = charts.style_of(index)
    is_named = index is not None
    name = charts.escaped(shortened(f"{record.trial}: {config_name(record)}", 40))
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [step for step, _ in curve],
        "y": [value for _, value in curve],
        "name": name,
        "showlegend": is_named,
        "line": {
            "color": shade if is_named else colour("other"),
            "width": 2 if is_named else 1,
            "dash": dash if is_named else "solid",
        },
        "opacity": 1 if is_named else 0.4,
        "hovertemplate": f"{name}<br>step %{{x}}: %{{y:.4g}}<extra></extra>",
    }


def points(curve: Sequence[tuple[int, float]]) -> Curve:
    """Returns a curve as it is drawn: finite values, thinned."""
    return thinned([(step, value) for step, value in curve if abs(value) < float("inf")])
