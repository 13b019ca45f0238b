"""The report as a browser shows it: nothing sticks out, nothing is loaded, every chart is drawn.

`SCREENSHOTS=FOLDER make test-browser` keeps the pictures, to be looked at.
"""

import base64
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from browser_support import Shown, keep
from report_support import LONG, SEARCH, Made, search, source_of, study
from selenium.webdriver import Chrome

from service.report.pictures import write_pictures
from service.report.rendering import html
from service.report.sections import make_page
from service.states import TrialState

pytestmark = pytest.mark.browser

PAPER = {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 27)"}
FAILED = Made({"tau": 1.0}, state=TrialState.FAILED, error="CUDA out of memory")


def long_names() -> list[Made]:
    names = [f"{LONG}_{index}" for index in range(9)]
    return [
        Made(one.values, one.metrics, one.state, f"{names[at % 9]} {LONG}", one.error)
        for at, one in enumerate(search(30))
    ]


# name: trials and what they are of
CASES: dict[str, dict[str, Any]] = {
    "3-trials": {"trials": search(3), "search": SEARCH},
    "30-trials": {"trials": search(30), "search": SEARCH},
    "500-trials": {"trials": search(500), "search": SEARCH},
    "study": {"trials": study(seeds=5)},
    "one-seed": {"trials": study(seeds=1)},
    "front": {"trials": search(60), "search": SEARCH, "second": True},
    "long-names": {"trials": long_names(), "search": SEARCH},
    "no-finished-trial": {"trials": [FAILED], "scores": False},
    "no-trial": {"trials": [], "scores": False, "state": "running"},
}


@cache
def folder() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(prefix="kd-report-pages-"))


@cache
def written(case: str) -> tuple[Path, int]:
    """The page's file, and how many charts it has."""
    page = make_page(source_of(**CASES[case]))
    path = folder() / f"{case}.html"
    path.write_text(html(page), encoding="utf-8")
    return path, len(page.charts)


def show(browser: Chrome, case: str, *, width: int, scheme: str) -> Shown:
    path, charts = written(case)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get_log("performance")
    browser.get(path.as_uri())
    shown = Shown(browser)
    end = time.monotonic() + 60
    while shown.ask("document.documentElement.dataset.drawn") != str(charts):
        assert time.monotonic() < end, (case, shown.complaints())
        time.sleep(0.05)
    return shown


@pytest.fixture(params=[(1400, "light"), (400, "dark"), (1400, "dark"), (400, "light")], ids=str)
def view(request: pytest.FixtureRequest) -> Iterator[tuple[int, str]]:
    yield request.param


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_whole(chromium: Chrome, case: str, view: tuple[int, str]) -> None:
    width, scheme = view
    shown = show(chromium, case, width=width, scheme=scheme)
    keep(chromium, f"{case}-{width}-{scheme}")
    assert shown.complaints() == []
    assert shown.requests() == [written(case)[0].as_uri()]
    assert shown.ask("document.documentElement.scrollWidth") <= width
    assert shown.ask("getComputedStyle(document.body).backgroundColor") == PAPER[scheme]


# What draws a line or a mark in each chart, or says that it does not.
EMPTY = """
[...document.querySelectorAll('.chart')]
  .filter((one) => !one.querySelector('svg.main-svg .point, svg.main-svg .js-line'))
  .map((one) => one.id)
"""
BACKGROUND = "document.querySelector('.chart svg.main-svg').style.background"
# Charts that are wider than what scrolls them.
WIDE = """
[...document.querySelectorAll('.scroll')].filter((one) => {
  const plot = one.querySelector('.chart svg.main-svg');
  return plot && plot.getBoundingClientRect().width > one.scrollWidth + 1;
}).length
"""


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("no-")])
@pytest.mark.parametrize("width", [1400, 400])
def test_every_chart_is_drawn(chromium: Chrome, case: str, width: int) -> None:
    shown = show(chromium, case, width=width, scheme="light")
    assert shown.ask("document.querySelectorAll('.chart').length") == written(case)[1] > 0
    assert shown.ask(EMPTY) == []
    assert shown.ask(WIDE) == 0


def test_charts_take_the_colours_of_the_scheme_also_when_it_changes(chromium: Chrome) -> None:
    shown = show(chromium, "study", width=1400, scheme="light")
    assert shown.ask(BACKGROUND) == PAPER["light"]
    media = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    end = time.monotonic() + 20
    while shown.ask(BACKGROUND) != PAPER["dark"]:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_it_prints_light_and_within_the_paper(chromium: Chrome) -> None:
    shown = show(chromium, "study", width=1400, scheme="dark")
    shown.ask("dispatchEvent(new Event('beforeprint'))")
    end = time.monotonic() + 20
    while (
        shown.ask("document.querySelector('.chart svg.main-svg').style.background")
        != PAPER["light"]
    ):
        assert time.monotonic() < end
        time.sleep(0.05)
    widths = "[...document.querySelectorAll('.chart svg.main-svg')].map((one) => one.clientWidth)"
    assert max(shown.ask(widths)) <= 700
    printed = base64.b64decode(
        chromium.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.7})[
            "data"
        ]
    )
    assert printed.startswith(b"%PDF")
    if target := os.environ.get("SCREENSHOTS"):
        (Path(target) / "study.pdf").write_bytes(printed)
    shown.ask("dispatchEvent(new Event('afterprint'))")


def test_charts_become_files(chromium: Chrome, tmp_path: Path) -> None:
    page = make_page(source_of(search(6), search=SEARCH))
    files = write_pictures(page, tmp_path / "drawn")
    assert {path.stem for path in files} == {chart.name for chart in page.charts}
    for path in files:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG" if path.suffix == ".png" else b"<svg")
        assert b"var(--" not in content
