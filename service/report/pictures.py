"""A report's charts as files, drawn by kaleido in a Chrome or Chromium of the machine's."""

import os
import shutil
from pathlib import Path

from service.errors import PlanError
from service.report.page import Page
from service.report.palette import LIGHT, resolved

FORMATS = ("png", "svg")
WIDTH, WIDE = 620, 1000  # in pixels; a PNG has twice as many
BROWSERS = ("google-chrome", "chromium", "chromium-browser", "chrome")
BROWSER_VARIABLE = "BROWSER_PATH"  # kaleido's


def write_pictures(page: Page, folder: Path) -> tuple[Path, ...]:
    """Writes each chart as PNG and SVG into the folder, which is made, and returns the files.
    Raises `PlanError` without kaleido or a browser, and where nothing can be written."""
    try:
        import kaleido
    except ImportError as error:
        raise PlanError(
            "--pictures: needs kaleido, but it is not installed. Install it: "
            "pip install 'kd-sweep[pictures]'"
        ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = [
            (chart, folder / f"{chart.name}.{kind}") for chart in page.charts for kind in FORMATS
        ]
        specs = [_spec(dict(chart.figure), path, wide=chart.is_wide) for chart, path in files]
        if specs:
            kaleido.write_fig_from_object_sync(specs, kopts={"path": browser()})
    except Exception as error:  # of kaleido, its browser, the disk
        raise PlanError(
            f"--pictures {folder}: each chart must be drawn there, but got: {error}. It takes a "
            f"Chrome or Chromium ({BROWSER_VARIABLE} may name it) and a folder that can be written."
        ) from error
    return tuple(path for _, path in files)


def browser() -> str | None:
    """Returns the browser that draws; None leaves it to kaleido to find one."""
    named = os.environ.get(BROWSER_VARIABLE)
    return named or next((path for name in BROWSERS if (path := shutil.which(name))), None)


def _spec(figure: dict[str, object], path: Path, *, wide: bool) -> dict[str, object]:
    drawn = resolved(figure, LIGHT)
    options = {
        "format": path.suffix[1:],
        "width": WIDE if wide else WIDTH,
        "height": drawn["layout"]["height"],
        "scale": 2,
    }
    return {"fig": drawn, "path": path, "opts": options}
