"""The command that writes a sweep's report."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from service import actions
from service.cli.app import AsJson, Sweep, place_of, show
from service.errors import SpecError

if TYPE_CHECKING:
    from service.actions.report import Report


def report(
    context: typer.Context,
    sweep: Sweep = "latest",
    open_: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    output_: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Default: report.html in its folder."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, or write it to --output.")
    ] = False,
    pictures: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write each chart there as PNG and SVG, too."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write what a sweep found as one page: the answer, its evidence, what it cost.

    Example: kd-sweep report latest --open
    """
    if open_ and (markdown or as_json):
        raise SpecError(
            "--open: must be given for the page alone, but got it with --markdown or --json. Leave "
            "one out."
        )
    place = place_of(context)
    found = actions.report.make_report(sweep, place, pictures=pictures)
    if output_ is not None or not (markdown or as_json):
        found = actions.report.write_report(found, place, output=output_, as_markdown=markdown)
    if markdown and found.path is None and not as_json:
        typer.echo(found.markdown(), nl=False)
        return
    show(found.to_json(), _written(found), as_json)
    if open_ and found.path is not None:
        webbrowser.open(found.path.resolve().as_uri())


def _written(found: "Report") -> RenderableType:
    """Returns what was found in short, and where the rest is."""
    answer = found.page.answer
    lines = [answer.found, f"{answer.verdict}: {answer.certainty}"]
    lines += [f"report: {found.path}"] if found.path else []
    if found.pictures:
        lines.append(f"pictures: {len(found.pictures)} files in {found.pictures[0].parent}")
    return Group(*map(Text, lines))
