"""A sweep's report: made from its record, written as a page, kept fresh while the sweep runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from service.actions.record import open_record
from service.actions.run_result import RunEvent, SweepBegins
from service.client.asking import ask, route
from service.errors import PlanError, TrackingError
from service.events import TrialEnded
from service.home import pictures_folder, sweeps_folder
from service.plan.places import report_file
from service.report.gather import gather
from service.report.page import Page
from service.report.pictures import write_pictures
from service.report.rendering import html, markdown
from service.report.sections import make_page
from service.results.best import evidence_in
from service.words import LATEST
from service.workspace import Server, Workspace
from trainers.files.store import write_text

# A page that is kept fresh is written no more often, nor takes more of the time than this.
LEAST_INTERVAL_S, MOST_SHARE = 10.0, 0.1
FRAME_HEIGHT = 700  # in a notebook


@dataclass(frozen=True)
class Report:
    """A sweep's report. `path`: where it was written; `pictures`: the files of its charts."""

    page: Page
    path: Path | None = None
    pictures: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the page as one JSON object, with all its numbers."""
        return self.page.to_json()

    def markdown(self) -> str:
        """Returns the page as Markdown, which shows the pictures where they were written."""
        folder = str(self.pictures[0].parent) if self.pictures else None
        return markdown(self.page, pictures=folder)

    def _repr_html_(self) -> str:
        """Shows the page in a notebook, in a frame of its own."""
        return (
            f'<iframe srcdoc="{escape(html(self.page))}" width="100%" height="{FRAME_HEIGHT}" '
            'style="border:0"></iframe>'
        )


def make_report(
    sweep: str, workspace: Workspace | Server, *, pictures: Path | None = None
) -> Report:
    """Returns the report of a recorded sweep (id, unique beginning of one, name or `latest`), also
    of one that still runs. pictures: a folder that each chart is drawn into, as PNG and SVG. Raises
    `TrackingError` when there is no such sweep, `PlanError` where no pictures can be made."""
    page = _page_of(sweep, workspace)
    return Report(page, pictures=() if pictures is None else write_pictures(page, pictures))


def _page_of(sweep: str, workspace: Workspace | Server) -> Page:
    if isinstance(workspace, Server):
        return ask(workspace, route("sweeps", sweep, "report"), Page)
    runs = open_record(workspace)
    found = runs.resolve_sweep(sweep)
    return make_page(gather(runs, found, evidence_in(runs, found)))


def write_report(
    report: Report,
    workspace: Workspace | Server,
    *,
    output: Path | None = None,
    as_markdown: bool = False,
    is_live: bool = False,
) -> Report:
    """Writes the report as a page of HTML, or as Markdown, and returns it with the place. output:
    the file, by default `report.html` in the sweep's folder; is_live: it is written anew soon, and
    a browser is to read it again. Raises `PlanError` where it cannot be written."""
    place = output or default_place(report.page.sweep_id, workspace)
    text = report.markdown() if as_markdown else html(report.page, is_live=is_live)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, text)  # at once: who reads it meanwhile has the earlier one
    except OSError as error:
        raise PlanError(
            f"--output {place}: must be a file that can be written, but got: {error}. Name another "
            "one."
        ) from error
    return replace(report, path=place)


def default_place(sweep_id: str, workspace: Workspace | Server) -> Path:
    """Returns the file that a sweep's report is written to: in its folder, and where that is not on
    this machine, among the home folder's pictures."""
    home = workspace.here.home if isinstance(workspace, Server) else workspace.home
    folder = sweeps_folder(home) / sweep_id
    if folder.is_dir():
        return report_file(folder)
    return pictures_folder(home) / f"{sweep_id}-report.html"


class FreshReport:
    """A report that is written anew while its sweep runs, from the sweep's events. on_begin: called
    with the place once it is known; `now` gives seconds."""

    def __init__(
        self,
        workspace: Workspace | Server,
        *,
        on_begin: Callable[[Path], None] = lambda path: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workspace, self._on_begin, self._now = workspace, on_begin, now
        self._sweep = LATEST
        self._place: Path | None = None
        self._is_stale = False
        self._next = 0.0

    def take(self, event: RunEvent) -> None:
        """Takes an event in; some time after one that brought a result, writes the page."""
        match event:
            case SweepBegins(plan=plan):
                self._sweep = plan.sweep_id
                self._place = default_place(plan.sweep_id, self._workspace)
                self._on_begin(self._place)
            case TrialEnded():
                self._is_stale = True
        if self._is_stale and self._now() >= self._next:
            self._refresh()

    def finish(self) -> Report:
        """Writes the page for the last time: no browser reads it again. Raises as `make_report` and
        `write_report`."""
        made = make_report(self._sweep, self._workspace)
        return write_report(made, self._workspace, output=self._place)

    def _refresh(self) -> None:
        began = self._now()
        try:
            made = make_report(self._sweep, self._workspace)
        except TrackingError:  # not recorded yet, or the record is away: the next event comes
            return
        write_report(made, self._workspace, output=self._place, is_live=True)
        took = self._now() - began
        self._is_stale = False
        self._next = self._now() + max(LEAST_INTERVAL_S, took / MOST_SHARE)
