"""The command line: one function a command, which reads its arguments, calls, and prints."""

import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.text import Text
from typer.core import TyperGroup

from service.actions import doctor as doctor_checks
from service.actions.plan import plan_here
from service.cli import cache as cache_cli
from service.cli import cluster as cluster_cli
from service.cli import rerun as rerun_cli
from service.cli import tables
from service.cluster import profiles
from service.errors import SpecError, SweepError
from service.home import home_folder
from service.plan.plan import SweepPlan
from service.spec import file as sweep_file
from service.spec.parse import json_schema

PIPE_WIDTH = 160


class _Commands(TyperGroup):
    """Turns errors that a user can mend into one block on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SweepError as error:
            if ctx.params.get("debug"):
                raise
            _errors().print(Text(f"error: {error}"), soft_wrap=True)
            raise typer.Exit(error.exit_code) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A sweep file, or a preset's name.")]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="A.B=VALUE", help="Override a field; repeatable.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Sweep = Annotated[
    str, typer.Argument(metavar="SWEEP", help="Id, unique beginning of one, name, or latest.")
]


@app.callback()
def main_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar="KD_SWEEP_PROFILE",
            help="Cluster, storage and record of \\[profiles.NAME] in kd-sweep.toml.",
        ),
    ] = None,
) -> None:
    """Finds how to distil a language model best: divergence, temperature, CIST's rho, weights.

    Start with: kd-sweep run demo
    """
    if profile is not None:
        file = profiles.find_file(Path.cwd(), home_folder())
        os.environ |= profiles.variables_of(profile, file, os.environ)


@app.command()
def plan(spec: Spec, set_: Overrides = [], as_json: AsJson = False) -> None:  # noqa: B006
    """Check a sweep and show what it will take. Spends nothing.

    Example: kd-sweep plan temperature --set trials=20
    """
    made = plan_here(spec, set_, folder=Path.cwd(), home=home_folder())
    _show(plan_json(made), tables.plan_view(made), as_json)


@app.command()
def run(
    spec: Spec,
    set_: Overrides = [],  # noqa: B006
    again: Annotated[bool, typer.Option("--again", help="Run it although it is done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a sweep on this machine; Ctrl-C stops it cleanly, twice at once.

    Example: kd-sweep run demo
    """
    from service.actions.run import run_here

    made = plan_here(spec, set_, folder=Path.cwd(), home=home_folder())
    console = _errors() if as_json else _output()
    # Ray writes notes of its own to stdout, where JSON must stand alone.
    with redirect_stdout(sys.stderr if as_json else sys.stdout):
        result = run_here(made, home=home_folder(), again=again, console=console)
    _show(result.to_json(), result.view(), as_json)
    raise typer.Exit(result.exit_code)


@app.command()
def sweeps(as_json: AsJson = False) -> None:
    """List the recorded sweeps, the newest first.

    Example: kd-sweep sweeps --json
    """
    found = _runs().sweeps()
    _show([one.to_json() for one in found], tables.sweeps_view(found), as_json)


@app.command()
def trials(sweep: Sweep, as_json: AsJson = False) -> None:
    """List a sweep's trials with their states.

    Example: kd-sweep trials latest
    """
    runs = _runs()
    found = runs.resolve_sweep(sweep)
    records = runs.trials(found.sweep_id)
    view = tables.trials_view(records, found.objective_metric)
    _show([one.to_json() for one in records], view, as_json)


@app.command()
def best(
    sweep: Annotated[
        str, typer.Option("--sweep", metavar="SWEEP", help="Id, name, latest, or all.")
    ] = "latest",
    metric: Annotated[
        str | None, typer.Option(help="Metric to rank by; default: the sweep's objective.")
    ] = None,
    where: Annotated[
        list[str], typer.Option(metavar="FIELD=VALUE", help="Keep such trials only; repeatable.")
    ] = [],  # noqa: B006
    per: Annotated[
        str | None, typer.Option(metavar="FIELD", help="The best for each value of it.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the best one's trial.json.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the best configs; without --metric, also who wins under each other metric.

    Example: kd-sweep best --where divergence=forward_kl --top 3 --export trial.json
    """
    from service.results.best import Question, find_best

    runs = _runs()
    found = find_best(runs, Question(sweep, metric, where, per, top))
    if export is not None:
        found.export(runs, export)
    _show([one.to_json() for one in found.records], tables.best_view(found), as_json)


@app.command()
def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN RUN…", help="Run ids, or SWEEP/NUMBER.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show what differs between trials, and their metrics side by side.

    Example: kd-sweep compare latest/4 latest/7
    """
    from service.results.compare import compare as compared

    if len(runs) < 2:
        raise SpecError(f"compare: two runs or more must be named, but got {len(runs)}. Add one.")
    store = _runs()
    found = compared([store.get(reference) for reference in runs])
    _show(found.to_json(), tables.comparison_view(found), as_json)


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the shipped sweeps, or print one.

    Example: kd-sweep presets temperature > my-sweep.yaml
    """
    if name is not None:
        document = sweep_file.read_document(name, Path.cwd())
        _show(document, Text(sweep_file.preset_text(name)), as_json)
        return
    rows = [
        {"name": preset, "finds out": sweep_file.preset_summary(preset)}
        for preset in sweep_file.preset_names()
    ]
    _show(rows, tables.rows_view(rows), as_json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a sweep file, for editors.

    Example: kd-sweep schema > sweep.schema.json
    """
    _show(json_schema(), Text(), True)


@app.command()
def init(as_json: AsJson = False) -> None:
    """Print a commented sweep to start from; it plans and runs as it is.

    Example: kd-sweep init > my-sweep.yaml
    """
    text = sweep_file.starter_text()
    _show(sweep_file.parse_yaml(text, "starter"), Text(text), as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Look at what sweeps need on this machine: what works, and what to do where it does not.

    Example: kd-sweep doctor
    """
    from service.record.store import default_uri

    findings = doctor_checks.examine(home_folder(), default_uri(home_folder()))
    _show([vars(one) for one in findings], tables.findings_view(findings), as_json)
    if any(one.needed and not one.works for one in findings):
        raise typer.Exit(1)


@app.command(name="check-loss")
def check_loss(
    function: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="Your divergence.")],
    set_: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help="Give it a parameter.")
    ] = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Run the contract tests of divergences on your own function.

    Example: kd-sweep check-loss my_losses:my_divergence --set alpha=0.3
    """
    from service.own_code.check import check_own
    from service.spec.file import apply_override

    parameters: dict[str, Any] = {}
    for override in set_:
        apply_override(parameters, override)
    rows = check_own(function, Path.cwd(), parameters)
    _show(rows, tables.checks_view(function, rows), as_json)
    if not all(row["holds"] for row in rows if row["required"]):
        raise typer.Exit(1)


@app.command(name="rho-range")
def rho_range(
    spec: Spec,
    set_: Overrides = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Propose a range of CIST's rho from the teacher's entropies on a sample of the data.

    Example: kd-sweep rho-range cist
    """
    from service.actions.rho import rho_report

    made = plan_here(spec, set_, folder=Path.cwd(), home=home_folder())
    progress = _errors()
    report = rho_report(made, home_folder(), lambda stage, share: _tell(progress, stage, share))
    _show(report.to_json(), report.view(), as_json)


def plan_json(made: SweepPlan) -> dict[str, Any]:
    """Returns the plan's JSON, with the search space in words."""
    return made.model_dump(mode="json") | {"search_space": made.search_rows()}


def main() -> None:
    """Runs the command line."""
    app(prog_name="kd-sweep")


def _runs() -> Any:
    from service.record.runs import Runs
    from service.record.store import default_uri, ensure_store, replay_spool

    home = home_folder()
    uri = default_uri(home)
    ensure_store(uri, home)
    replay_spool(uri, home)
    return Runs(uri)


def _show(document: Any, view: RenderableType, as_json: bool) -> None:
    if as_json:
        print(json.dumps(document, indent=2, default=str))
    else:
        _output().print(view)


def _tell(console: Console, stage: str, share: float) -> None:
    if share in (0.0, 1.0):
        console.print(f"{stage} {share:.0%}")


def _output() -> Console:
    console = Console()
    # A file or pipe has no width of its own: wide enough that a row stays on its line.
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def _errors() -> Console:
    return Console(stderr=True, highlight=False)


cluster_cli.add_commands(app, _runs, _show)
rerun_cli.add_commands(app, _runs, _show)
cache_cli.add_commands(app, _show)
