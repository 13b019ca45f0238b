"""The commands that carry a recorded trial on: trained again, exported, registered."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from service import actions
from service.cli import completing, tables
from service.cli.app import AsJson, errors, place_of, refuse_with_server, show, workspace_of
from service.errors import PlanError

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Run id, or SWEEP/NUMBER.", autocompletion=completing.trials
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="New or empty.")]
Image = Annotated[str | None, typer.Option("--image", help="Default: the one it ran in.")]
Local = Annotated[bool, typer.Option("--local", help="In this environment, without Docker.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu | cuda; default: the recorded.")]
Merge = Annotated[
    bool, typer.Option("--merge", help="A student that is an adapter as a whole model.")
]
Keep = Annotated[bool, typer.Option("--keep", help="Keep the rerun's files.")]
Mounts = Annotated[
    list[str],
    typer.Option(
        "--mount", metavar="NAME=FOLDER", help="Where teacher, student, data or own_modules is."
    ),
]


def rerun(
    context: typer.Context,
    run: Run,
    image: Image = None,
    local: Local = False,
    device: Device = None,
    keep: Keep = False,
    mount: Mounts = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Train a recorded trial again and say whether the numbers are the same.

    Example: kd-sweep rerun latest/7 --local
    """
    request = actions.rerun.RerunRequest(run, image, local, device, keep, _folders_of(mount))
    console = errors()
    result = actions.rerun.rerun_trial(
        request,
        workspace_of(context),
        on_line=lambda line: console.print(Text(line), soft_wrap=True),
    )
    show(result.to_json(), tables.rerun_view(result), as_json)
    raise typer.Exit(result.exit_code)


def export(
    context: typer.Context, run: Run, folder: Folder, merge: Merge = False, as_json: AsJson = False
) -> None:
    """Write a trial with its student and inputs into a folder that reproduces it elsewhere.

    Example: kd-sweep export latest/7 winner
    """
    made = actions.rerun.export_trial(run, workspace_of(context), folder=folder, merge=merge)
    show(made.to_json(), Text(f"{made.folder}: {', '.join(made.names)}"), as_json)


def promote(
    context: typer.Context,
    run: Run,
    name: Annotated[
        str, typer.Option("--as", metavar="NAME[@ALIAS]", help="A registered model of MLflow.")
    ],
    merge: Merge = False,
    as_json: AsJson = False,
) -> None:
    """Register a trial's student in MLflow's model registry.

    Example: kd-sweep promote latest/7 --as dolly-student@champion
    """
    refuse_with_server(context, "merge")
    made = actions.promote.promote_trial(run, place_of(context), name=name, merge=merge)
    load = Text(f'{made.version.text}: mlflow.transformers.load_model("{made.uri}")')
    show(made.to_json(), load, as_json)


def _folders_of(mounts: list[str]) -> dict[str, Path]:
    found = {}
    for text in mounts:
        name, equals, folder = text.partition("=")
        if not equals or not folder:
            raise PlanError(f"--mount: must be NAME=FOLDER, but got '{text}'.")
        found[name] = Path(folder)
    return found
