"""The commands `rerun` and `export`; `service.cli.main` adds them to its own."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.text import Text

from service.cli import tables
from service.errors import PlanError
from service.home import home_folder

if TYPE_CHECKING:
    from service.record.runs import Runs
    from service.rerun.rerun import RerunResult

Show = Callable[[Any, RenderableType, bool], None]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Run id, or SWEEP/NUMBER.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="New or empty.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]


Image = Annotated[str | None, typer.Option("--image", help="Default: the one it ran in.")]
Local = Annotated[bool, typer.Option("--local", help="In this environment, without Docker.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu | cuda; default: the recorded.")]
Keep = Annotated[bool, typer.Option("--keep", help="Keep the rerun's files.")]
Mounts = Annotated[
    list[str],
    typer.Option(
        "--mount", metavar="NAME=FOLDER", help="Where teacher, student, data or own_modules lies."
    ),
]


def add_commands(app: typer.Typer, open_runs: Callable[[], "Runs"], show: Show) -> None:
    """Adds the commands to `app`; `open_runs` opens the store, `show` prints JSON or a view."""

    @app.command()
    def rerun(
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
        result = _train_again(open_runs(), (run, image, local, device, keep), mount)
        show(result.to_json(), rerun_view(result), as_json)
        raise typer.Exit(result.exit_code)

    @app.command()
    def export(run: Run, folder: Folder, as_json: AsJson = False) -> None:
        """Write a trial with its student and inputs into a folder that reproduces it elsewhere.

        Example: kd-sweep export latest/7 winner
        """
        from service.rerun.export import export as write

        made = write(run, open_runs(), folder)
        names = ", ".join(made.names)
        content = {"folder": str(made.folder), "names": made.names}
        show(content, Text(f"{made.folder}: {names}"), as_json)


def _train_again(
    runs: "Runs", given: tuple[str, str | None, bool, str | None, bool], mounts: list[str]
) -> "RerunResult":
    from service.rerun.rerun import RerunRequest, rerun

    run, image, local, device, keep = given
    if device not in (None, "cpu", "cuda"):
        raise PlanError(f"--device: must be cpu or cuda, but got '{device}'.")
    request = RerunRequest(run, image, local, device, keep, _mounts(mounts))
    errors = Console(stderr=True, highlight=False)
    return rerun(
        request,
        runs,
        home=home_folder(),
        on_line=lambda line: errors.print(Text(line), soft_wrap=True),
    )


def rerun_view(result: "RerunResult") -> RenderableType:
    """Returns the metrics beside each other, and the verdict below them."""
    rows = [
        (
            row.metric,
            _number(row.recorded),
            _number(row.rerun),
            "" if row.difference is None else f"{row.difference:+.3g}",
            f"{row.tolerance:.3g}",
            "yes" if row.agrees else "no",
        )
        for row in result.judgement.rows
    ]
    record = result.record
    headings = ("metric", "recorded", "rerun", "difference", "tolerance", "agrees")
    views: list[RenderableType] = [
        tables.table(f"rerun of {record.sweep_id}/{record.trial}", headings, rows),
        Text(),
        Text(result.judgement.sentence(), style="bold"),
        Text(f"run {result.run_id}, {result.duration_s:.1f} s"),
    ]
    if result.kept is not None:
        views.append(Text(f"its files: {result.kept}"))
    return Group(*views)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.9g}"


def _mounts(texts: list[str]) -> dict[str, Path]:
    found = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or not folder:
            raise PlanError(f"--mount: must be NAME=FOLDER, but got '{text}'.")
        found[name] = Path(folder)
    return found
