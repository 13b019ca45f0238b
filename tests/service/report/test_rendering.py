"""The page as a file: it needs no network, escapes what it is given, and holds every figure."""

import json
import re
from html.parser import HTMLParser

import plotly.graph_objects
import pytest
from report_support import LONG, SEARCH, Made, search, source_of, study

from service.report.page import Page
from service.report.palette import DARK, LIGHT, resolved
from service.report.rendering import RELOAD_S, html, markdown
from service.report.sections import make_page


@pytest.fixture(scope="module")
def page() -> Page:
    return make_page(source_of(search(40), search=SEARCH, second=True))


class Reader(HTMLParser):
    """Finds what a page would load, its scripts, and its tables' cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.scripts: list[dict[str, str | None]] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.loaded += [
            f"{tag} {value}"
            for name, value in attrs
            if name in ("src", "href", "srcset", "data", "action", "poster") and value
            if not value.startswith("#")
        ]
        self.ids += [found["id"]] if found.get("id") else []
        if tag == "script":
            self.scripts.append(found)


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    text = html(page)
    reader = Reader(text)
    assert reader.loaded == []
    head = text.partition("<script")[0]
    assert "url(" not in head and "@import" not in head
    assert len(text) < 10_000_000


def test_plotlys_script_is_in_it_once_and_only_with_charts(page: Page) -> None:
    assert html(page).count("plotly.js v") == 1
    empty = html(make_page(source_of([])))
    assert "plotly.js v" not in empty
    assert len(empty) < 100_000


def test_each_chart_is_a_valid_figure_in_its_place(page: Page) -> None:
    text = html(page)
    reader = Reader(text)
    found = re.findall(r'<script type="application/json" data-chart="([^"]+)">(.*?)</script>', text)
    assert [name for name, _ in found] == [f"chart-{chart.name}" for chart in page.charts]
    assert len(found) >= 6
    for (name, written), chart in zip(found, page.charts, strict=True):
        assert name in reader.ids
        assert json.loads(written) == json.loads(json.dumps(chart.figure))
        plotly.graph_objects.Figure(resolved(chart.figure, LIGHT))


def test_sections_and_tables_have_their_ids(page: Page) -> None:
    ids = Reader(html(page)).ids
    assert {section.name for section in page.sections} <= set(ids)
    assert {f"table-{table.name}" for table in page.tables} <= set(ids)
    assert len(ids) == len(set(ids))


def test_names_of_others_are_shown_and_not_obeyed() -> None:
    name = "</script><script>alert(1)</script><b>|"
    trials = [Made({"tau": tau}, {"rouge_l": tau}, label=name) for tau in (1.0, 2.0)]
    page = make_page(source_of(trials, scores=False))
    text = html(page)
    assert "<script>alert" not in text
    assert "&lt;/script&gt;" in text
    rows = [line for line in markdown(page).splitlines() if "alert" in line and line[0] == "|"]
    assert rows and all("\\|" in line for line in rows)


def test_both_palettes_name_the_same_colours_and_all_that_figures_ask_for(page: Page) -> None:
    assert LIGHT.keys() == DARK.keys()
    asked = set(re.findall(r"var\(--([\w-]+)\)", json.dumps([one.figure for one in page.charts])))
    assert asked and asked <= LIGHT.keys()
    css = html(page).partition("</style>")[0]
    assert set(re.findall(r"var\(--([\w-]+)\)", css)) <= LIGHT.keys()


def test_a_live_page_is_read_again(page: Page) -> None:
    assert f'data-reload="{RELOAD_S}"' in html(page, is_live=True)
    assert "data-reload" not in html(page).partition("</main>")[0]


def test_markdown_has_the_same_numbers_and_the_pictures_that_were_drawn(page: Page) -> None:
    text = markdown(page)
    assert "![" not in text
    for table in page.tables:
        for row in table.rows:
            assert all(" ".join(cell.text.split()) in text for cell in row.cells)
    shown = markdown(page, pictures="drawn")
    assert [f"](drawn/{chart.name}.svg)" in shown for chart in page.charts] == [True] * len(
        page.charts
    )


def test_markdown_has_no_heading_over_nothing(page: Page) -> None:
    charts_alone = [one for one in page.sections if not one.text and not one.tables]
    assert charts_alone
    assert not any(f"## {one.title}\n" in markdown(page) for one in charts_alone)
    shown = markdown(page, pictures="drawn")
    assert all(f"## {one.title}\n" in shown for one in page.sections)


def test_tables_of_markdown_are_tables() -> None:
    lines = markdown(make_page(source_of(study()))).splitlines()
    heads = [at for at, line in enumerate(lines) if re.fullmatch(r"(\|-+:?)+\|", line)]
    assert heads
    for at in heads:
        width = lines[at].count("|")
        assert lines[at - 1].count("|") == width == lines[at + 1].count("|")
        assert lines[at - 2] == ""


def test_a_long_name_is_whole_in_the_table() -> None:
    trials = [Made({"tau": 1.0}, {"rouge_l": 1.0}, label=LONG * 3)]
    assert LONG * 3 in html(make_page(source_of(trials)))
