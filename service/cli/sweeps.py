"""The commands that plan and run a sweep here, and those that print documents to start from."""

import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from service import actions
from service.cli import best_table, completing, tables
from service.cli.app import (
    AsJson,
    From,
    Overrides,
    Spec,
    errors,
    output,
    place_of,
    show,
)
from service.cli.display import RunDisplay
from service.cli.plan_table import plan_view
from service.workspace import Server


def plan(
    context: typer.Context,
    spec: Spec,
    set_: Overrides = [],  # noqa: B006
    from_: From = None,
    as_json: AsJson = False,
) -> None:
    """Check a sweep and show what it will take. Spends nothing.

    Example: kd-sweep plan temperature --set trials=20
    """
    made = actions.plan.plan_sweep(spec, place_of(context), overrides=set_, warm_start=from_)
    show(actions.plan.plan_json(made), plan_view(made), as_json)


def run(
    context: typer.Context,
    spec: Spec,
    set_: Overrides = [],  # noqa: B006
    again: Annotated[bool, typer.Option("--again", help="Run it although it is done.")] = False,
    from_: From = None,
    as_json: AsJson = False,
) -> None:
    """Run a sweep to its end, here or through a service; Ctrl-C stops it cleanly, twice at once.

    Example: kd-sweep run demo
    """
    place = place_of(context)
    made = actions.plan.plan_sweep(spec, place, overrides=set_, warm_start=from_)
    console = errors() if as_json else output()
    # Ray writes notes of its own to stdout, where JSON must stand alone.
    with redirect_stdout(sys.stderr if as_json else sys.stdout):
        is_elsewhere = isinstance(place, Server)
        with RunDisplay(console, shows_plan=True, is_elsewhere=is_elsewhere) as display:
            result = actions.run.run_sweep(
                made, place, again=again, on_event=display.on_event, stop=display.stop
            )
    show(result.to_json(), best_table.run_view(result), as_json)
    raise typer.Exit(result.exit_code)


def presets(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Print this one.", autocompletion=completing.documents
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the shipped sweeps, or print one.

    Example: kd-sweep presets temperature > my-sweep.yaml
    """
    if name is not None:
        document = actions.documents.read_preset(name)
        show(document.to_json(), _as_written(document.text), as_json)
        return
    rows = [preset.to_json() for preset in actions.documents.list_presets()]
    show(rows, tables.rows_view(rows), as_json)


def schema(
    of: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Of what a command prints with --json.",
            autocompletion=completing.answers,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="It is JSON in any case.")] = True,
) -> None:
    """Print the JSON Schema of a sweep file, for editors, or of a command's --json.

    Example: kd-sweep schema > sweep.schema.json
    """
    if of is None:
        show(actions.documents.sweep_schema(), Text(), True)
    else:
        show(actions.documents.answer_schema(of), Text(), True)


def init(as_json: AsJson = False) -> None:
    """Print a commented sweep to start from; it plans and runs as it is.

    Example: kd-sweep init > my-sweep.yaml
    """
    document = actions.documents.read_starter()
    show(document.to_json(), _as_written(document.text), as_json)


def _as_written(text: str) -> RenderableType:
    """Returns a document for the screen; its lines are not wrapped, as it goes into files."""
    # In a group: a text that is printed by itself loses what it says of wrapping.
    return Group(Text(text, no_wrap=True, overflow="ignore"))
