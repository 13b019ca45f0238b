"""The Typer application that the commands are added to: options that they share, the workspace they
work in, how errors end and how results are shown."""

import errno
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from typer.core import TyperGroup

from service.cli import completing
from service.cli.environment import PROFILE_VARIABLE, environment_with
from service.errors import PlanError, SpecError, SweepError
from service.words import printable
from service.workspace import SERVER_VARIABLE, Server, Workspace, cluster_at, find_cluster

PIPE_WIDTH = 10_000
# What a full or protected disk says, wherever it is met first.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)

# What a service does as well.
OFFERED = "plan|run|submit|sweeps|trials|best|compare|report|status|logs|watch|stop|stop-trial"
OFFERED += "|resume|extend|retry|confirm|promote"
NAMES_PLACE = ("profile", "server")
_COMMAND = re.compile(rf"\bkd-sweep (?=(?:{OFFERED})\b)")
# The options before the command that name the service, as they were typed, each with a space.
_typed: ContextVar[str] = ContextVar("typed", default="")


class _Commands(TyperGroup):
    """Turns errors that a user can correct into one block on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SweepError as error:
            if ctx.params.get("debug"):
                raise
            errors().print(Text(f"error: {as_typed(str(error))}"), soft_wrap=True)
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            if ctx.params.get("debug") or error.errno not in UNWRITABLE:
                raise
            errors().print(
                Text(
                    f"error: disk: every file must be written, but got: {error}. Free space or "
                    "rights there, or set KD_SWEEP_HOME to another folder."
                ),
                soft_wrap=True,
            )
            raise typer.Exit(PlanError.exit_code) from error
        finally:
            _typed.set("")  # of this command alone


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Spec = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="A sweep file, or a preset's name.",
        autocompletion=completing.documents,
    ),
]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="A.B=VALUE", help="Override a field; repeatable.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Sweep = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP",
        help="Id, unique beginning of one, name, or latest.",
        autocompletion=completing.sweeps,
    ),
]


From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="SWEEP",
        help="Let the sampler start with what this one found.",
        autocompletion=completing.sweeps,
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"kd-sweep {version('kd-sweep')}")
        raise typer.Exit


@app.callback()
def main_options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar=PROFILE_VARIABLE,
            help="Cluster, storage and record of \\[profiles.NAME] in kd-sweep.toml.",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Of a service to do it through; your token in KD_SWEEP_TOKEN.",
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    """Finds how to distil a language model best: divergence, temperature, CIST's rho, weights.

    Start with: kd-sweep run demo
    """
    context.obj = environment_with(profile, server)
    if context.obj.get(SERVER_VARIABLE):
        given = {name: context.params[name] for name in NAMES_PLACE if _is_typed(context, name)}
        _typed.set("".join(f"--{name} {shlex.quote(word)} " for name, word in given.items()))


def workspace_of(context: typer.Context, what: str = "") -> Workspace:
    """Returns the workspace that the environment and the profile describe. what: the option that
    asks for it. Raises `SpecError` where they describe a service: it does not offer the command, or
    this option of it."""
    server = context.obj.get(SERVER_VARIABLE)
    if server:  # the same as `from_environment` says, with what was asked for
        asked = f"{_words(context)} {what}".strip()
        raise SpecError(
            f"{asked}: must be given where the sweeps are, but got it for the service at "
            f"{server}, which does not offer it. Leave out --server, {SERVER_VARIABLE} or the "
            "profile that names it."
        )
    return Workspace.from_environment(context.obj, Path.cwd())


def place_of(context: typer.Context) -> Workspace | Server:
    """Returns the service that the environment or the profile describes, else the workspace."""
    return Server.from_environment(context.obj, Path.cwd()) or workspace_of(context)


def workspace_here_or_at(context: typer.Context, address: str | None) -> Workspace:
    """Returns the workspace with the cluster at `address`, else with the one of KD_SWEEP_ADDRESS or
    the profile; without any, its commands are for this machine."""
    workspace = workspace_of(context)
    return workspace.on(cluster_at(address, context.obj)) if address else workspace


def place_here_or_at(context: typer.Context, address: str | None) -> Workspace | Server:
    """Returns the service, else as `workspace_here_or_at`."""
    return _server_without(context, "address") or workspace_here_or_at(context, address)


def place_on_cluster(context: typer.Context, address: str | None) -> Workspace | Server:
    """Returns what a command is for that needs a cluster, or only looks at sweeps: the service,
    else the workspace with the cluster at `address`, else with the one that the environment, Ray's
    own variable included, or the profile names."""
    service = _server_without(context, "address")
    return service or workspace_of(context).on(find_cluster(address, context.obj))


def refuse_with_server(context: typer.Context, *options: str) -> None:
    """Raises `SpecError` for an option that is typed although a service is asked, which decides
    what it is about."""
    for option in options:
        if _is_typed(context, option):
            workspace_of(context, f"--{option.replace('_', '-')}")


def _server_without(context: typer.Context, *options: str) -> Server | None:
    """Returns the service, if there is one. Raises as `refuse_with_server`."""
    refuse_with_server(context, *options)
    return Server.from_environment(context.obj, Path.cwd())


def _words(context: typer.Context) -> str:
    """Returns the command as it is typed: `cache list`."""
    return context.command_path.partition(" ")[2]


def as_typed(text: str) -> str:
    """Returns a text with the commands in it as they have to be typed to ask the service that this
    one asks: with the option that named it, unless the environment did."""
    options = _typed.get()
    return _COMMAND.sub(lambda found: found[0] + options, text) if options else text


def _is_typed(context: typer.Context, option: str) -> bool:
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def show(document: Any, view: RenderableType, as_json: bool) -> None:
    """Prints the document as JSON, or the view."""
    if as_json:
        print(json.dumps(document, indent=2, default=str))
    else:
        output().print(view, crop=False)


def write_any_text() -> None:
    """Lets a terminal or file whose encoding has no `…` get a `?` in its place."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


class Screen(Console):
    """A console that shows control characters of what it is given as `?`: labels, names and errors
    come from files and records of others, and a terminal obeys them. It breaks no word: a text with
    one that is wider than the screen, such as a path to be copied, is not wrapped."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Yields what Rich makes of `renderable`, without such characters."""
        options = options or self.options
        if isinstance(renderable, Text):
            longest = max(map(cell_len, renderable.plain.split()), default=0)
            if longest > options.max_width:
                options = options.update(no_wrap=True, overflow="ignore")
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)


def output() -> Console:
    """Returns the console on stdout. A file or pipe has no width of its own, unless COLUMNS gives
    one: its rows are wide enough that each stays on its line."""
    console = Screen()
    known = console.is_terminal or os.environ.get("COLUMNS", "").isdigit()
    return console if known else Screen(width=PIPE_WIDTH)


def errors() -> Console:
    """Returns the console on stderr."""
    return Screen(stderr=True, highlight=False)
