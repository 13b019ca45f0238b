"""The commands of `kd-sweep cache`."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from service import actions
from service.cli import completing, tables
from service.cli.app import AsJson, show, workspace_of
from service.words import size

DAMAGED_EXIT_CODE = 1

Key = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="Key, or its unique beginning.", autocompletion=completing.caches
    ),
]
Folder = Annotated[
    str | None,
    typer.Option(
        "--folder",
        help="Where caches are stored: a folder or a URL (s3://…); default: the home folder.",
    ),
]
Keys = Annotated[
    str | None,
    typer.Argument(
        metavar="[KEY]",
        help="Key, or its unique beginning; default: all.",
        autocompletion=completing.caches,
    ),
]

group = typer.Typer(no_args_is_help=True, help="List, check and delete teacher caches.")


@group.command(name="list")
def list_(context: typer.Context, folder: Folder = None, as_json: AsJson = False) -> None:
    """List the teacher caches, the newest first.

    Example: kd-sweep cache list
    """
    found = actions.cache.list_caches(workspace_of(context), folder)
    show([asdict(one) for one in found], tables.caches_view(found), as_json)


@group.command(name="show")
def show_(context: typer.Context, key: Key, folder: Folder = None, as_json: AsJson = False) -> None:
    """Show what a cache was built with.

    Example: kd-sweep cache show 3f2a
    """
    content = actions.cache.show_cache(key, workspace_of(context), folder=folder).to_json()
    rows = [(name.replace("_", " "), str(value)) for name, value in content.items()]
    show(content, tables.table("", ("", ""), rows), as_json)


@group.command()
def verify(
    context: typer.Context, key: Keys = None, folder: Folder = None, as_json: AsJson = False
) -> None:
    """Read every byte of a cache, or of all, and name files that are not what was built.

    Example: kd-sweep cache verify
    """
    found = actions.cache.verify_caches(workspace_of(context), key=key, folder=folder)
    show([one.to_json() for one in found], tables.verified_view(found), as_json)
    if any(one.damaged for one in found):
        raise typer.Exit(DAMAGED_EXIT_CODE)


@group.command()
def prune(
    context: typer.Context,
    keep_gib: Annotated[float, typer.Option(min=0, help="Keep the newest ones up to so much.")],
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Delete the oldest caches, and what killed builds left. Not while a sweep reads them.

    Example: kd-sweep cache prune --keep-gib 50
    """
    deleted = actions.cache.prune_caches(workspace_of(context), keep_gib=keep_gib, folder=folder)
    freed = size(sum(one.bytes for one in deleted))
    view = Text(f"{len(deleted)} caches deleted, {freed} freed")
    show([asdict(one) for one in deleted], view, as_json)
