"""The commands that delete: a sweep, and what no sweep needs any more."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from service import actions
from service.cli.app import AsJson, Sweep, errors, show, workspace_here_or_at, workspace_of
from service.cli.tables import table
from service.words import count, duration, size

if TYPE_CHECKING:
    from service.actions.delete import Deletion, Part
    from service.actions.prune import Item, Pruning

DAY_S = 86400
SHOWN = 20  # items; the largest are shown

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Here = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar="KD_SWEEP_ADDRESS",
        help="Ray's dashboard, where the sweep may still run.",
    ),
]


def delete(
    context: typer.Context,
    sweep: Sweep,
    yes: Yes = False,
    address: Here = None,
    as_json: AsJson = False,
) -> None:
    """Delete a sweep: runs, artifacts and files. What it shares with others is kept.

    Example: kd-sweep delete my-sweep-4cd8c83c
    """
    workspace = workspace_here_or_at(context, address)
    planned = actions.delete.plan_deletion(sweep, workspace)
    _ask(_deletion_view(planned), f"Delete sweep {planned.sweep_id}?", yes)
    deleted = actions.delete.delete_sweep(planned.sweep_id, workspace)
    show(deleted.to_json(), _done(deleted.parts, deleted.kept), as_json)


def prune(
    context: typer.Context,
    older_than: Annotated[
        float, typer.Option("--older-than", metavar="DAYS", min=0, help="Only what is so old.")
    ] = 0,
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", min=0, help="Keep the N newest of each kind.")
    ] = 0,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete what no sweep needs: old inputs, caches, checkpoints, folders of deleted sweeps.

    Example: kd-sweep prune --older-than 30
    """
    workspace = workspace_of(context)
    planned = actions.prune.plan_pruning(workspace, older_than_days=older_than, keep=keep)
    if planned.items:
        _ask(_pruning_view(planned), "Delete all of this?", yes)
        actions.prune.prune(planned, workspace)
    show(planned.to_json(), _done(planned.items, planned.kept), as_json)


def _ask(view: RenderableType, question: str, yes: bool) -> None:
    """Shows what would go; ends the command unless the user agrees."""
    errors().print(view, crop=False)
    if not yes:
        typer.confirm(question, abort=True, err=True)


def _deletion_view(deletion: "Deletion") -> RenderableType:
    rows = [
        (part.what, count(part.count), "" if part.bytes is None else size(part.bytes), part.place)
        for part in deletion.parts
    ]
    made = table(
        f"sweep {deletion.sweep_id}: to be deleted", ("what", "how many", "size", "where"), rows
    )
    return Group(made, *_kept(deletion.kept))


def _pruning_view(pruning: "Pruning") -> RenderableType:
    """Returns a line for each kind, then the largest items."""
    kinds = list(dict.fromkeys(item.what for item in pruning.items))
    of_kinds = [[item for item in pruning.items if item.what == kind] for kind in kinds]
    rows = [
        (kind, count(len(items)), size(sum(item.bytes for item in items)))
        for kind, items in zip(kinds, of_kinds, strict=True)
    ]
    largest = sorted(pruning.items, key=lambda item: -item.bytes)[:SHOWN]
    named = [(str(item.place), size(item.bytes), _age(item.age_s)) for item in largest]
    return Group(
        table("needed by no sweep", ("what", "how many", "size"), rows),
        Text(),
        table(f"the largest of these {len(pruning.items)}", ("where", "size", "age"), named),
        *_kept(pruning.kept),
    )


def _age(seconds: float) -> str:
    return duration(seconds) if seconds < 2 * DAY_S else f"{seconds / DAY_S:.0f} days"


def _done(gone: "Sequence[Part | Item]", kept: Sequence[str]) -> RenderableType:
    if not gone:
        return Group(Text("nothing to delete"), *_kept(kept))
    freed = size(sum(one.bytes or 0 for one in gone))
    return Text(f"deleted, {freed} freed")


def _kept(sentences: Sequence[str]) -> list[Text]:
    return [Text(f"kept: {sentence}") for sentence in sentences]
