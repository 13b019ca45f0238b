"""Why: what the losses did to a probe of positions (`docs/diagnostics.md` defines the numbers)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.report import charts
from service.report.charts import Trace
from service.report.numbers import decimals, number_cell
from service.report.objectives import group_name
from service.report.page import Cell, Chart, Row, Section, Table
from service.report.palette import colour
from service.report.source import Diagnostics, Source
from service.results.standings import Standing

PROBE = "probe/"
MOST_TRIALS = 6
COLUMNS = (
    "soft_entropy_mean",
    "soft_entropy_std",
    "matched_entropy_std",
    "off_top5",
    "vanishing",
    "cosine_to_tau_1",
    "hard_to_soft",
    "logit_scale_ratio",
)
DIVERGENCES = ("forward_kl", "reverse_kl")


@dataclass(frozen=True)
class Measure:
    """A number of the ladder that is drawn against tau."""

    name: str
    title: str
    axis: str


MEASURES = (
    Measure("off_top5", "Gradient off the top five", "share of the logit gradient's L1"),
    Measure("vanishing", "Positions that teach nothing", "share of positions"),
    Measure("cosine", "Direction beside that at tau 1", "cosine of gradients"),
)
FAR_AND_NEAR = (
    "Far: the undistilled student; near: the trained one. Near the teacher both KLs have the same "
    "second-order form, so what tells them apart shows far from it."
)


def first_of_each(source: Source) -> list[Standing]:
    """Returns the best config of each divergence and policy, as many as are looked at."""
    found: dict[str, Standing] = {}
    for standing in source.ranked:
        found.setdefault(group_name(standing), standing)
    return list(found.values())[:MOST_TRIALS]


def diagnostics(source: Source) -> Section | None:
    """Returns the section, or None where no trial was looked at."""
    table = _table(source)
    drawn = _against_tau(source)
    if table is None and not drawn:
        return None
    text = (FAR_AND_NEAR,) if drawn else ()
    tables = () if table is None else (table,)
    return Section("diagnostics", "Why: what the losses did", text, charts=drawn, tables=tables)


def _table(source: Source) -> Table | None:
    """Returns the last look at the best of each, as means over its seeds."""
    lines = [
        (one, values)
        for one in first_of_each(source)
        if any((values := {name: one.average(PROBE + name) for name in COLUMNS}).values())
    ]
    names = [name for name in COLUMNS if any(values[name] is not None for _, values in lines)]
    if not names:
        return None
    places = {name: decimals(values[name] for _, values in lines) for name in names}
    rows = tuple(
        Row((Cell(one.name), *(number_cell(values[name], places[name]) for name in names)))
        for one, values in lines
    )
    return Table(
        "probe",
        "The last look at the best of each",
        ("config", *names),
        rows,
        note="Entropies in nats, over the same positions in all trials.",
        command=f"kd-sweep trials {source.sweep_id} --json",
    )


def _against_tau(source: Source) -> tuple[Chart, ...]:
    """Returns a chart for each measure of the ladder: both KLs against tau, far and near."""
    best = [one.typical.trial for one in first_of_each(source)]
    looked = [source.diagnostics[trial] for trial in best if trial in source.diagnostics]
    if not looked:
        return ()
    far, near = ladder_of(looked[0], 0), []
    if len(looked[0].get("looks") or ()) > 1:
        near = ladder_of(looked[0], -1)
    drawn = []
    for measure in MEASURES:
        traces = [
            _rungs(rungs, divergence, measure.name, is_far=is_far)
            for is_far, rungs in ((True, far), (False, near))
            for divergence in DIVERGENCES
        ]
        traces = [trace for trace in traces if trace["x"]]
        if traces:
            drawn.append(_chart(source, measure, traces))
    return tuple(drawn)


def ladder_of(found: Diagnostics, look: int) -> list[Mapping[str, Any]]:
    """Returns the rungs of a look's ladder; none where it has none."""
    looks = found.get("looks") or [{}]
    return list(looks[look].get("ladder") or [])


def _rungs(
    rungs: Sequence[Mapping[str, Any]], divergence: str, measure: str, *, is_far: bool
) -> Trace:
    points = [(rung["tau"], (rung.get(divergence) or {}).get(measure)) for rung in rungs]
    known = [(tau, value) for tau, value in points if value is not None]
    shade = colour(f"series-{DIVERGENCES.index(divergence)}")
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": f"{divergence}, {'far' if is_far else 'near'}",
        "x": [tau for tau, _ in known],
        "y": [value for _, value in known],
        "line": {"color": shade, "dash": "solid" if is_far else "dot", "width": 2},
        "marker": {"color": shade, "symbol": "circle" if is_far else "circle-open", "size": 7},
        "hovertemplate": "tau %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
    }


def _chart(source: Source, measure: Measure, traces: list[Trace]) -> Chart:
    layout = charts.chart_layout("", measure.axis)
    places = [tau for trace in traces for tau in trace["x"]]
    layout["xaxis"] = charts.log_axis("temperature tau", places)
    layout["yaxis"]["rangemode"] = "nonnegative"
    return Chart(
        f"ladder-{measure.name}",
        measure.title,
        {"data": traces, "layout": layout},
        caption="from diagnostics.json of the best trial",
        command=f"kd-sweep trials {source.sweep_id} --json",
    )
