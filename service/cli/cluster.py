"""The commands for Ray clusters, and for sweeps that were started before."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service import actions
from service.cli import tables
from service.cli.app import (
    AsJson,
    Overrides,
    Screen,
    Spec,
    Sweep,
    errors,
    show,
    workspace_here_or_at,
    workspace_on_cluster,
)
from service.cli.display import RunDisplay, WatchDisplay
from service.cli.plan_table import plan_view
from service.words import printable

if TYPE_CHECKING:
    from service.actions.cluster import SweepStatus
    from service.actions.go_on import LocalDriver
    from service.actions.run import RunResult
    from service.cluster.job import SweepJob

Address = Annotated[
    str | None, typer.Option("--address", help="Ray's dashboard; default: KD_SWEEP_ADDRESS.")
]
Here = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar="KD_SWEEP_ADDRESS",
        help="Ray's dashboard; without it: this machine.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Restarts = Annotated[int, typer.Option(min=0, help="Start a dead driver again so often.")]
From = Annotated[
    str | None, typer.Option("--from", metavar="SWEEP", help="Let the sampler start with it.")
]


def submit(
    context: typer.Context,
    spec: Spec,
    set_: Overrides = [],  # noqa: B006
    address: Address = None,
    yes: Yes = False,
    again: Annotated[bool, typer.Option("--again", help="Although it was submitted.")] = False,
    from_: From = None,
    code: Annotated[Path | None, typer.Option(help="Folder of modules of your own.")] = None,
    max_driver_restarts: Restarts = 1,
    as_json: AsJson = False,
) -> None:
    """Check a sweep against a Ray cluster, show what it takes, and hand it over.

    Example: kd-sweep submit my-sweep.yaml --address http://head:8265
    """
    workspace = workspace_on_cluster(context, address)
    plan = actions.cluster.plan_on_cluster(
        spec, workspace, overrides=set_, code=code, warm_start=from_
    )
    console = errors()
    console.print(plan_view(plan))
    if not yes:
        typer.confirm("Submit it?", abort=True, err=True)
    job = actions.cluster.submit_sweep(
        plan,
        workspace,
        warm_start=from_,
        max_driver_restarts=max_driver_restarts,
        again=again,
        code=code,
    )
    _show_row(job, as_json)
    where = f"{job.sweep_id} --address {workspace.require_cluster().address}"
    console.print(f"follow it: kd-sweep watch {where}; stop it: kd-sweep stop {where}")


def status(
    context: typer.Context,
    sweep: Annotated[str | None, typer.Argument(metavar="[SWEEP]")] = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Show the sweeps that a cluster knows, or one with its trials by state.

    Example: kd-sweep status latest --address http://head:8265
    """
    workspace = workspace_on_cluster(context, address)
    if sweep is None:
        rows = [job.to_json() for job in actions.cluster.list_jobs(workspace)]
        show(rows, tables.rows_view(rows), as_json)
    else:
        _show_row(actions.cluster.sweep_status(sweep, workspace), as_json)


def logs(
    context: typer.Context,
    sweep: Sweep,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", help="Until it ends.")] = False,
    trial: Annotated[int | None, typer.Option(help="Lines of this trial only.")] = None,
) -> None:
    """Print what a sweep's driver wrote.

    Example: kd-sweep logs latest --follow --trial 7
    """
    workspace = workspace_on_cluster(context, address)
    for line in actions.cluster.read_logs(sweep, workspace, follow=follow, trial=trial):
        typer.echo(printable(line))


def watch(context: typer.Context, sweep: Sweep, address: Address = None) -> None:
    """Show a sweep on a cluster as `run` shows one here, until it ends; Ctrl-C only looks away.

    Example: kd-sweep watch latest --address http://head:8265
    """
    with WatchDisplay(Screen()) as display:
        for event in actions.cluster.watch_sweep(sweep, workspace_on_cluster(context, address)):
            display.on_event(event)


def stop(
    context: typer.Context, sweep: Sweep, address: Here = None, as_json: AsJson = False
) -> None:
    """End a sweep: trials leave at their next step, and `resume` goes on from there.

    Example: kd-sweep stop latest
    """
    _show_row(actions.go_on.stop_sweep(sweep, workspace_here_or_at(context, address)), as_json)


def stop_trial(
    context: typer.Context,
    sweep: Sweep,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", min=0)],
    address: Address = None,
) -> None:
    """Cancel one running trial of a sweep on a cluster; the sweep goes on.

    Example: kd-sweep stop-trial latest 7 --address http://head:8265
    """
    actions.cluster.stop_trial(sweep, workspace_on_cluster(context, address), trial=trial)


def resume(
    context: typer.Context, sweep: Sweep, address: Here = None, as_json: AsJson = False
) -> None:
    """Go on with a sweep that was stopped, or whose driver or cluster died.

    Example: kd-sweep resume latest
    """
    workspace = workspace_here_or_at(context, address)
    with _run_display(as_json) as display:
        result = actions.go_on.resume_sweep(
            sweep, workspace, on_event=display.on_event, stop=display.stop
        )
    _show_result(result, as_json)


def extend(
    context: typer.Context,
    sweep: Sweep,
    trials: Annotated[int, typer.Option("--trials", min=1, help="How many more.")],
    address: Here = None,
    as_json: AsJson = False,
) -> None:
    """Give a sweep more trials, also one that is finished.

    Example: kd-sweep extend latest --trials 20
    """
    workspace = workspace_here_or_at(context, address)
    with _run_display(as_json) as display:
        result = actions.go_on.extend_sweep(
            sweep, workspace, trials=trials, on_event=display.on_event, stop=display.stop
        )
    _show_result(result, as_json)


def retry(
    context: typer.Context,
    sweep: Sweep,
    trials: Annotated[list[int] | None, typer.Argument(metavar="[TRIAL…]")] = None,
    address: Here = None,
    as_json: AsJson = False,
) -> None:
    """Repeat trials that failed, diverged or were cancelled; without numbers all failed ones.

    Example: kd-sweep retry latest 3 9
    """
    workspace = workspace_here_or_at(context, address)
    with _run_display(as_json) as display:
        result = actions.go_on.retry_trials(
            sweep, workspace, trials=trials or (), on_event=display.on_event, stop=display.stop
        )
    _show_result(result, as_json)


def drive(
    order: Path, child: Annotated[bool, typer.Option("--child", hidden=True)] = False
) -> None:
    """Run a job's order; what `submit` makes the cluster call."""
    from service.cluster.drive import drive as run_order

    raise typer.Exit(run_order(order, typer.echo, is_child=child))


def control(sweep_id: str, words: list[str]) -> None:
    """Send a command to a driver; what `stop` makes the cluster call."""
    from service.cluster.drive import control as send

    send(sweep_id, words)


def _run_display(as_json: bool) -> RunDisplay:
    return RunDisplay(errors() if as_json else Screen())


def _show_row(row: "SweepJob | SweepStatus | LocalDriver", as_json: bool) -> None:
    document = row.to_json()
    show(document, tables.rows_view([document]), as_json)


def _show_result(result: "RunResult | SweepJob", as_json: bool) -> None:
    """Shows what going on has come to: the end of a run here, or a job of the cluster."""
    if isinstance(result, actions.run.RunResult):
        show(result.to_json(), tables.run_view(result), as_json)
        raise typer.Exit(result.exit_code)
    _show_row(result, as_json)
