"""Where reverse KL passes forward KL along the temperature, as seeds show it, marked in a chart."""

import math

from service.report.charts import Figure
from service.report.palette import colour
from service.report.source import Source
from service.statistics.crossover import Crossing

BAND = 0.12  # how dense the interval's shade is


def crossing_sentences(source: Source) -> list[str]:
    """Returns what seeds say of each pair of curves."""
    found = () if source.significance is None else source.significance.crossovers
    return [f"Crossover: {pair.sentence()}." for pair in found]


def crossings_of(source: Source) -> tuple[Crossing, ...]:
    """Returns the crossings of the one pair of curves; none where there are several, which differ
    in something that the chart does not show."""
    pairs = () if source.significance is None else source.significance.crossovers
    return pairs[0].found.crossings if len(pairs) == 1 else ()


def crossing_marks(found: tuple[Crossing, ...]) -> list[Figure]:
    """Returns a line at each crossing within the band of its interval, for the chart."""
    marks: list[Figure] = []
    for one in found:
        upright = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
        band = {"type": "rect", "x0": one.low, "x1": one.high, "line": {"width": 0}}
        line = {"color": colour("accent"), "width": 1.5, "dash": "dashdot"}
        marks.append(upright | band | {"fillcolor": colour("accent"), "opacity": BAND})
        marks.append(upright | {"type": "line", "x0": one.tau, "x1": one.tau, "line": line})
    return marks


def crossing_labels(found: tuple[Crossing, ...]) -> list[Figure]:
    """Returns the name of each crossing, for the chart."""
    return [
        {
            "text": f"crossover {one.tau:.3g}",
            # Unlike a line, a text is placed by its exponent on a logarithmic axis.
            "x": math.log10(one.tau),
            "xref": "x",
            "yref": "paper",
            "y": 1,
            "yanchor": "bottom",
            "showarrow": False,
            "font": {"size": 12, "color": colour("accent")},
        }
        for one in found
    ]
