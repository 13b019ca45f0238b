"""The picture of a rho range: the entropy of the teacher's soft labels against CIST's rho, with the
fixed temperature beside it, as one HTML page. Pure."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

    from trainers.losses.rho import EntropyRow, RhoRange

# Of Okabe and Ito: told apart with every kind of colour vision.
COLOURS, GREY = ("#0072B2", "#D55E00"), "#595959"
TITLES = ("CIST: rho / ln V", "fixed: tau")
# What plotly writes on a logarithmic axis is 2 and 5 for 0.2 and 0.5.
TICKS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
BAND, RANGE = 0.2, 0.12  # how dense the shades are


def rho_page(found: "RhoRange", name: str) -> str:
    """Returns an HTML page: mean entropy with a band of one standard deviation over positions, in
    nats, against rho / ln V and against tau; shaded: the proposed range of rho."""
    title = f"{name}: entropy of the teacher's soft labels"
    body = rho_figure(found, title).to_html(
        full_html=False,
        include_plotlyjs="inline",
        div_id="figure",
        config={"displaylogo": False, "responsive": True},
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title></head>\n"
        f'<body style="margin:0;background:white">{body}</body></html>\n'
    )


def rho_figure(found: "RhoRange", title: str) -> "Figure":
    """Returns the figure of `rho_page`."""
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, subplot_titles=TITLES, horizontal_spacing=0.04
    )
    for column, rows in enumerate((found.by_rho, found.by_tau), start=1):
        for trace in _traces(rows, COLOURS[column - 1]):
            figure.add_trace(trace, row=1, col=column)
        figure.update_xaxes(**_axis([row.setting for row in rows]), row=1, col=column)
    low, high = found.low_per_log_vocab, found.high_per_log_vocab
    figure.add_vrect(
        x0=low,
        x1=high,
        fillcolor=COLOURS[0],
        opacity=RANGE,
        line_width=0,
        layer="below",
        row=1,
        col=1,
    )
    # A share of the height, so that the words stand between ln V and the falling curve.
    figure.add_annotation(
        text=f"proposed range: {low:g} to {high:g}",
        xref="x domain",
        yref="y domain",
        x=0.98,
        y=0.88,
        xanchor="right",
        showarrow=False,
        font={"color": COLOURS[0]},
    )
    figure.add_hline(y=found.log_vocab, line={"color": GREY, "dash": "dot", "width": 1})
    figure.update_yaxes(title="entropy in nats: mean, band of one std", rangemode="tozero", col=1)
    figure.update_layout(template="plotly_white", title=f"{title}; dotted: ln V")
    return figure


def _traces(rows: "Sequence[EntropyRow]", colour: str) -> "list[Scatter]":
    """Returns the two edges of the band, the second filled down to the first, and the mean."""
    from plotly.graph_objects import Scatter

    settings = [row.setting for row in rows]
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    shade = f"rgba({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))}, {BAND})"
    lower = [max(0.0, row.mean - row.std) for row in rows]
    return [
        Scatter(x=settings, y=lower, **edge),
        Scatter(
            x=settings,
            y=[row.mean + row.std for row in rows],
            fill="tonexty",
            fillcolor=shade,
            **edge,
        ),
        Scatter(
            x=settings,
            y=[row.mean for row in rows],
            customdata=[row.std for row in rows],
            mode="lines+markers",
            line={"color": colour},
            showlegend=False,
            hovertemplate="%{x:.3g}: %{y:.3g} nats, std %{customdata:.3g}<extra></extra>",
        ),
    ]


def _axis(settings: Sequence[float]) -> dict[str, Any]:
    """Returns a logarithmic axis whose ticks are the numbers themselves."""
    shown = [tick for tick in TICKS if min(settings) <= tick <= max(settings)]
    return {"type": "log", "tickvals": shown, "ticktext": [f"{tick:g}" for tick in shown]}
