"""The commands of `kd-sweep cache`; `service.cli.main` adds them to its own."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from service.cli import tables
from service.errors import PlanError
from service.home import home_folder
from service.words import count, size
from trainers.teachers import cache_inventory
from trainers.teachers.cache_inventory import CacheInfo

Show = Callable[[Any, RenderableType, bool], None]
GIB = 1024**3
DAMAGED_EXIT_CODE = 1

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="Key, or its unique beginning.")]
Place = Annotated[
    str | None,
    typer.Option(
        "--folder", help="Where caches lie: a folder or a URL (s3://…); default: the home folder."
    ),
]
Keys = Annotated[
    str | None, typer.Argument(metavar="[KEY]", help="Key, or its unique beginning; default: all.")
]


def add_commands(app: typer.Typer, show: Show) -> None:
    """Adds the group `cache` to `app`; `show` prints JSON or a view."""
    group = typer.Typer(no_args_is_help=True, help="List, check and delete teacher caches.")
    _add_looking(group, show)
    _add_keeping(group, show)
    app.add_typer(group, name="cache")


def _add_looking(group: typer.Typer, show: Show) -> None:
    @group.command(name="list")
    def list_(folder: Place = None, as_json: AsJson = False) -> None:
        """List the teacher caches, the newest first.

        Example: kd-sweep cache list
        """
        found = _all(folder)
        show([cache_inventory.describe(one) for one in found], _list_view(found), as_json)

    @group.command(name="show")
    def show_(key: Key, folder: Place = None, as_json: AsJson = False) -> None:
        """Show what a cache was built with.

        Example: kd-sweep cache show 3f2a
        """
        found = _find(key, folder)
        content = cache_inventory.describe(cache_inventory.show(found)) | _built_with(found)
        rows = [(name.replace("_", " "), str(value)) for name, value in content.items()]
        show(content, tables.table("", ("", ""), rows), as_json)


def _add_keeping(group: typer.Typer, show: Show) -> None:
    @group.command()
    def verify(key: Keys = None, folder: Place = None, as_json: AsJson = False) -> None:
        """Read every byte of a cache, or of all, and name files that are not what was built.

        Example: kd-sweep cache verify
        """
        places = [_find(key, folder)] if key else [one.folder for one in _all(folder)]
        found = [{"key": _name(one), "damaged": cache_inventory.verify(one)} for one in places]
        show(found, _verified_view(found), as_json)
        if any(one["damaged"] for one in found):
            raise typer.Exit(DAMAGED_EXIT_CODE)

    @group.command()
    def prune(
        keep_gib: Annotated[float, typer.Option(min=0, help="Keep the newest ones up to so much.")],
        folder: Place = None,
        as_json: AsJson = False,
    ) -> None:
        """Delete the oldest caches, and what killed builds left. Not while a sweep reads them.

        Example: kd-sweep cache prune --keep-gib 50
        """
        deleted = cache_inventory.prune(_place(folder), keep_bytes=int(keep_gib * GIB))
        freed = size(sum(one.bytes for one in deleted))
        view = Text(f"{len(deleted)} caches deleted, {freed} freed")
        show([cache_inventory.describe(one) for one in deleted], view, as_json)


def _place(folder: str | None) -> str:
    return folder.rstrip("/") if folder else str(home_folder() / "caches")


def _name(place: str) -> str:
    return place.rsplit("/", 1)[-1]


def _all(folder: str | None) -> list[CacheInfo]:
    return cache_inventory.list_caches(_place(folder))


def _find(key: str, folder: str | None) -> str:
    try:
        return cache_inventory.find(_place(folder), key)
    except ValueError as error:
        raise PlanError(str(error)) from error


def _built_with(folder: str) -> dict[str, Any]:
    content = cache_inventory.read_description(folder)
    return {
        "num_shards": len(content["shards"]),
        "attention": content["attention"],
        "numerics": content["numerics"],
    }


def _list_view(found: Sequence[CacheInfo]) -> RenderableType:
    rows = [
        (one.key, size(one.bytes), count(one.num_positions), one.dtype, _error(one), one.created)
        for one in found
    ]
    return tables.table("", ("cache", "size", "positions", "dtype", "error", "built"), rows)


def _error(info: CacheInfo) -> str:
    return "exact" if info.storage_error == 0 else f"{info.storage_error:.1g}"


def _verified_view(found: Sequence[dict[str, Any]]) -> RenderableType:
    rows = [(one["key"], ", ".join(one["damaged"]) or "whole") for one in found]
    return tables.table("", ("cache", "damaged files; the next sweep makes them anew"), rows)
