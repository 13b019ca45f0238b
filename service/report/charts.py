"""What all charts of a report have in common: axes, layout, marks. They are plotly's figures as
plain values, which costs no import and lets the page give the colours."""

from collections.abc import Mapping, Sequence
from statistics import quantiles
from typing import Any

from service.record.records import RunRecord
from service.report.palette import NUM_SERIES, colour
from service.results.standings import config_name
from service.states import TrialState
from service.words import shortened

Figure = dict[str, Any]
Trace = dict[str, Any]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
SHAPES = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
OTHER = "others"
HEIGHT = 400
# Temperatures and ratios span less than two decades, of which plotly would name three or four.
TICKS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
FINE_TICKS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 6, 8, 12, 16)
FEW_TICKS, MOST_TICKS, LONGEST_NAME = 3, 6, 60
FEWEST_TO_FENCE, FENCE = 8, 3
MARGIN = 0.06  # of an axis beyond what is drawn


def chart_layout(x_title: str, y_title: str, more: Figure | None = None) -> Figure:
    """Returns the layout that charts share; more: keys of plotly's layout."""
    base: Figure = {
        "font": {"family": FONT, "size": 13, "color": colour("ink")},
        "paper_bgcolor": colour("page"),
        "plot_bgcolor": colour("page"),
        "margin": {"l": 56, "r": 14, "t": 16, "b": 48},
        "height": HEIGHT,
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": colour("panel"),
            "bordercolor": colour("rule"),
            "font": {"color": colour("ink"), "size": 12},
            "align": "left",
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 0,
            "yref": "container",
            "yanchor": "bottom",
            "font": {"size": 12},
        },
        "xaxis": axis(x_title),
        "yaxis": axis(y_title),
    }
    return merged(base, more or {})


def axis(title: str, more: Figure | None = None) -> Figure:
    """Returns an axis with its title."""
    base: Figure = {
        "title": {"text": title, "standoff": 8, "font": {"color": colour("soft"), "size": 13}},
        "gridcolor": colour("grid"),
        "linecolor": colour("rule"),
        "showline": True,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": colour("rule"),
        "automargin": True,
    }
    return merged(base, more or {})


def log_axis(title: str, values: Sequence[float]) -> Figure:
    """Returns a logarithmic axis whose ticks are plain numbers."""
    low, high = min(values, default=1.0), max(values, default=1.0)
    shown = [tick for tick in TICKS if low / 1.1 <= tick <= high * 1.1]
    if 1 < len(set(values)) <= MOST_TICKS:
        shown = sorted(set(values))
    elif len(shown) < FEW_TICKS:
        shown = [tick for tick in FINE_TICKS if low / 1.05 <= tick <= high * 1.05]
    if len(shown) < 2:
        shown = sorted({float(f"{value:.2g}") for value in (low, (low * high) ** 0.5, high)})
    texts = [f"{tick:g}" for tick in shown]
    return axis(title, {"type": "log", "tickvals": shown, "ticktext": texts})


def merged(base: Figure, more: Mapping[str, Any]) -> Figure:
    """Returns `base` with the keys of `more`, dictionaries within dictionaries."""
    found = dict(base)
    for key, value in more.items():
        own = found.get(key)
        if isinstance(value, dict) and isinstance(own, dict):
            value = merged(own, value)
        found[key] = value
    return found


def without_outliers(values: Sequence[float]) -> list[float]:
    """Returns the values that lie within three times the middle half's width of it (Tukey's outer
    fences): one that is far off would press all others into a line. Of few all are kept."""
    if len(values) < FEWEST_TO_FENCE:
        return list(values)
    low, _, high = quantiles(values, n=4)
    reach = FENCE * (high - low)
    return (
        [value for value in values if low - reach <= value <= high + reach] if reach else [*values]
    )


def value_range(values: Sequence[float]) -> list[float] | None:
    """Returns the range of an axis, with a margin; None without values."""
    if not values:
        return None
    low, high = min(values), max(values)
    margin = MARGIN * (high - low) or 0.05 * abs(high) or 0.1
    return [low - margin, high + margin]


def style_of(index: int | None) -> tuple[str, str, str]:
    """Returns colour, shape and dash of the series with this place; None: of those without one."""
    if index is None or index >= NUM_SERIES:
        return colour("other"), "circle", "dot"
    return colour(f"series-{index}"), SHAPES[index], DASHES[index]


def better(sign: int) -> str:
    """Returns which way a metric is better, for an axis; sign: 1 where more is better, else -1."""
    return "higher is better" if sign > 0 else "lower is better"


def hover(record: RunRecord, metric: str) -> str:
    """Returns what a trial's mark says when it is pointed at."""
    lines = [f"<b>trial {record.trial}</b>, {str(record.state).replace('_', ' ')}"]
    lines.append(shortened(config_name(record), LONGEST_NAME))
    value = record.metric(metric)
    lines.append(f"seed {record.seed}" + ("" if value is None else f", {metric} {value:.4g}"))
    return "<br>".join([lines[0], *map(escaped, lines[1:])])


def is_open(record: RunRecord) -> bool:
    """Whether a trial's mark is open: it was not trained to its budget."""
    return record.state is not TrialState.COMPLETED


def escaped(text: str) -> str:
    """Returns a text that plotly shows as it is; it reads some of HTML in names and labels."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
