"""The commands of the service: it, its users, their tokens; and what it starts for each sweep."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from service import actions
from service.accounts.users import UserRole
from service.cli import tables
from service.cli.app import AsJson, errors, show, workspace_of
from service.errors import SpecError

DATABASE_VARIABLE = "KD_SWEEP_DATABASE"
Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        envvar=DATABASE_VARIABLE,
        help="Of the service's users; default: a file in the home folder.",
    ),
]
Limit = Annotated[str | None, typer.Option(metavar="N|none")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]

users = typer.Typer(no_args_is_help=True, help="Who may use the service.")
tokens = typer.Typer(no_args_is_help=True, help="What users of the service are known by.")


def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8266,
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Of data; default: this folder.")
    ] = None,
    allow_folder: Annotated[
        list[Path], typer.Option(metavar="FOLDER", help="Sweeps may name it, too; repeatable.")
    ] = [],  # noqa: B006
    allow_address: Annotated[
        list[str],
        typer.Option(metavar="URL", help="Sweeps may name what begins so; repeatable."),
    ] = [],  # noqa: B006
    at_once: Annotated[
        int | None,
        typer.Option(min=1, help="Sweeps at once; default: 1 here, all on a cluster."),
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Serve an API to plan, submit, watch and stop sweeps, each user theirs. Ctrl-C ends it alone.

    Example: kd-sweep serve
    """
    # FastAPI takes a second to load.
    from service.web.serving import Settings, serve

    settings = Settings(
        host=host,
        port=port,
        data=data.resolve() if data else None,
        folders=tuple(one.resolve() for one in allow_folder),
        addresses=tuple(allow_address),
        at_once=at_once,
        database=database,
    )

    def on_ready(address: str, token: str | None) -> None:
        lines = [Text(f"serving at {address}")]
        if token is not None:
            lines.append(Text(f"token of admin, shown this once: {token}"))
        show({"address": address, "token": token}, Group(*lines), as_json)

    try:
        serve(workspace_of(context), settings, on_ready)
    except KeyboardInterrupt:
        errors().print("the service ended; sweeps that it began go on")


@users.command(name="add")
def add_user(
    context: typer.Context,
    name: Name,
    role: Annotated[
        str, typer.Option(metavar="|".join(UserRole), help="What they may do.")
    ] = UserRole.SUBMITTER,
    project: Annotated[
        str | None, typer.Option(help="Whose sweeps they see; default: their own alone.")
    ] = None,
    code: Annotated[
        bool, typer.Option("--code", help="Their sweeps may bring code and notify.")
    ] = False,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Add a user.

    Example: kd-sweep users add anna --project vision
    """
    made = actions.accounts.add_user(
        name,
        workspace_of(context),
        role=role,
        project=project,
        may_run_code=code,
        database=database,
    )
    show(vars(made), tables.rows_view([vars(made)]), as_json)


@users.command(name="list")
def list_users(context: typer.Context, database: Database = None, as_json: AsJson = False) -> None:
    """List the users.

    Example: kd-sweep users list
    """
    rows = [
        vars(one) for one in actions.accounts.list_users(workspace_of(context), database=database)
    ]
    show(rows, tables.rows_view(rows), as_json)


@users.command(name="remove")
def remove_user(
    context: typer.Context, name: Name, database: Database = None, as_json: AsJson = False
) -> None:
    """End a user and their tokens. Their sweeps stay, and their name is not given again.

    Example: kd-sweep users remove anna
    """
    gone = actions.accounts.remove_user(name, workspace_of(context), database=database)
    show(vars(gone), tables.rows_view([vars(gone)]), as_json)


@users.command(name="quota")
def quota(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A user's, or a project's.")
    ] = None,
    project: Annotated[bool, typer.Option("--project", help="NAME is a project's.")] = False,
    trials_at_once: Limit = None,
    open_sweeps: Limit = None,
    gpu_hours: Limit = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Set and show what a user may have: trials at once, sweeps that run or wait, GPU hours.

    Each is a number, or none; GPU hours are a month's. Without NAME: those that were set.

    Example: kd-sweep users quota anna --trials-at-once 4 --gpu-hours 200
    """
    workspace = workspace_of(context)
    limits = {
        "trials_at_once": trials_at_once,
        "open_sweeps": open_sweeps,
        "gpu_hours": gpu_hours,
    }
    if name is None:
        if project or any(limits.values()):
            raise SpecError(
                "users quota: a limit is set for a user or a project, but got no name. Give one."
            )
        found = actions.quotas.list_quotas(workspace, database=database)
        rows = [one.to_json() for one in found]
        show(rows, tables.rows_view(rows), as_json)
        return
    row = actions.quotas.set_quota(
        name, workspace, is_project=project, limits=limits, database=database
    ).to_json()
    show(row, tables.rows_view([row]), as_json)


@users.command(name="log")
def log_users(context: typer.Context, database: Database = None, as_json: AsJson = False) -> None:
    """List who did what, the newest first.

    Example: kd-sweep users log
    """
    rows = actions.accounts.list_deeds(workspace_of(context), database=database)
    show(rows, tables.rows_view(rows), as_json)


@tokens.command(name="new")
def new_token(
    context: typer.Context,
    name: Name,
    days: Annotated[float, typer.Option(help="Until it ends.")] = 90,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make a token of a user. It is shown this once, and stored hashed.

    Example: kd-sweep tokens new anna --days 30
    """
    made = actions.accounts.new_token(name, workspace_of(context), days=days, database=database)
    show(made.to_json(), tables.rows_view([made.to_json()]), as_json)


@tokens.command(name="list")
def list_tokens(context: typer.Context, database: Database = None, as_json: AsJson = False) -> None:
    """List the tokens by id, whose they are and when they end.

    Example: kd-sweep tokens list
    """
    rows = actions.accounts.list_tokens(workspace_of(context), database=database)
    show(rows, tables.rows_view(rows), as_json)


@tokens.command(name="revoke")
def revoke_token(
    context: typer.Context,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As tokens list shows it.")],
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """End a token at once.

    Example: kd-sweep tokens revoke 3fa94c21d07b
    """
    actions.accounts.revoke_token(token_id, workspace_of(context), database=database)
    row = {"token_id": token_id}
    show(row, tables.rows_view([row]), as_json)


def drive_here(folder: Path, lock: int) -> None:
    """Run a sweep that the service was handed; what it starts for each."""
    raise typer.Exit(actions.launch.run_launch(folder, lock, typer.echo))
