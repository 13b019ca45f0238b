"""Where reverse KL passes forward KL along the temperature, if seeds show it."""

import math

from service.report.charts import Figure
from service.report.palette import colour
from service.report.series import AXES, place_on
from service.report.source import Source
from service.statistics.crossover import Crossover, Curve, crossover

FIRST, SECOND = "forward_kl", "reverse_kl"
BAND = 0.12  # how dense the interval's shade is


def crossover_of(source: Source) -> Crossover | None:
    """Returns where reverse KL passes forward KL under a fixed temperature; None where they share
    fewer than two temperatures."""
    return crossover(curve_of(source, FIRST), curve_of(source, SECOND))


def curve_of(source: Source, divergence: str) -> Curve:
    """Returns the objective of a divergence by temperature and seed. A temperature that several
    configs share is left out: they differ in something else."""
    found: dict[float, dict[int, float]] = {}
    several: set[float] = set()
    for standing in source.ranked:
        config = standing.typical.config
        tau = place_on(standing.typical, AXES[0])
        if tau is None or config.get("divergence") != divergence or config["policy"] != "fixed":
            continue
        several |= {tau} & found.keys()
        found[tau] = {one.seed: one.metric(source.metric) or 0.0 for one in standing.trials}
    return {tau: cell for tau, cell in found.items() if tau not in several}


def crossing_sentence(found: Crossover) -> str:
    """Returns what seeds say of it."""
    text = found.sentence(FIRST, SECOND)
    return f"Crossover: {text}."


def crossing_marks(found: Crossover | None) -> list[Figure]:
    """Returns a line at each crossing within the band of its interval, for the chart."""
    marks: list[Figure] = []
    for one in found.crossings if found is not None else ():
        upright = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
        band = {"type": "rect", "x0": one.low, "x1": one.high, "line": {"width": 0}}
        line = {"color": colour("accent"), "width": 1.5, "dash": "dashdot"}
        marks.append(upright | band | {"fillcolor": colour("accent"), "opacity": BAND})
        marks.append(upright | {"type": "line", "x0": one.tau, "x1": one.tau, "line": line})
    return marks


def crossing_labels(found: Crossover | None) -> list[Figure]:
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
        for one in (found.crossings if found is not None else ())
    ]
