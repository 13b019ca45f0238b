"""A report's page as HTML that needs no network, and as Markdown."""

import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from service.report.page import Chart, Page
from service.report.palette import DARK, LIGHT

if TYPE_CHECKING:
    from jinja2 import Environment

RELOAD_S = 20  # how often a page that is kept fresh is read again


def html(page: Page, *, is_live: bool = False) -> str:
    """Returns the page as one file of HTML, with plotly's script in it once. is_live: a browser
    reads it again every `RELOAD_S` seconds, as it is written anew while the sweep runs."""
    template = _environment(escapes=True).get_template("report.html.j2")
    return template.render(
        page=page,
        light=LIGHT,
        dark=DARK,
        style=_packaged("report.css"),
        script=_packaged("report.js"),
        plotly=_plotly() if page.charts else "",
        reload_s=RELOAD_S if is_live else 0,
    )


def markdown(page: Page, *, pictures: str | None = None) -> str:
    """Returns the page as Markdown. pictures: the folder, as the text is to name it, that has each
    chart as NAME.svg; None leaves charts out."""
    template = _environment(escapes=False).get_template("report.md.j2")
    return template.render(page=page, pictures=pictures)


def figure_json(chart: Chart) -> str:
    """Returns a chart's figure as JSON that may stand in a script of HTML."""
    text = json.dumps(chart.figure, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _environment(*, escapes: bool) -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("service.report"),
        autoescape=escapes,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {"figure": figure_json, "cell": _markdown_cell}
    made.filters |= filters
    return made


def _packaged(name: str) -> str:
    return (files("service.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    # The file itself: plotly's own function for it loads all of plotly.
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _markdown_cell(text: str) -> str:
    """Returns a text that stays in its cell of a table."""
    return " ".join(text.replace("|", "\\|").split())
