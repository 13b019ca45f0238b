"""The commands for Ray clusters, and for sweeps that were started before."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from service import actions
from service.accounts.line import Priority
from service.cli import best_table, completing, tables
from service.cli.app import (
    AsJson,
    From,
    Overrides,
    Screen,
    Spec,
    Sweep,
    as_typed,
    errors,
    place_here_or_at,
    place_on_cluster,
    refuse_with_server,
    show,
)
from service.cli.display import RunDisplay, WatchDisplay
from service.cli.plan_table import plan_view
from service.events import from_line, to_line
from service.signals import STOPPED_EXIT_CODE
from service.states import TrialState
from service.words import printable
from service.workspace import Server, Workspace

if TYPE_CHECKING:
    from service.actions.run_result import RunEvent, RunResult
    from service.cluster.sweep_job import SweepJob

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


def submit(
    context: typer.Context,
    spec: Spec,
    set_: Overrides = [],  # noqa: B006
    address: Address = None,
    yes: Yes = False,
    again: Annotated[bool, typer.Option("--again", help="Although it was submitted.")] = False,
    from_: From = None,
    code: Annotated[Path | None, typer.Option(help="Folder of modules of your own.")] = None,
    priority: Annotated[
        str | None, typer.Option(metavar="|".join(Priority), help="In a service's line.")
    ] = None,
    max_driver_restarts: Restarts = 1,
    as_json: AsJson = False,
) -> None:
    """Check a sweep against a Ray cluster, or a service, show what it takes, and hand it over.

    Example: kd-sweep submit my-sweep.yaml --address http://head:8265
    """
    refuse_with_server(context, "code", "max_driver_restarts")
    place = place_on_cluster(context, address)
    actions.cluster.check_priority(priority, place)
    plan = actions.cluster.plan_on_cluster(spec, place, overrides=set_, code=code, warm_start=from_)
    console = errors()
    console.print(plan_view(plan))
    if not yes:
        typer.confirm("Submit it?", abort=True, err=True)
    job = actions.cluster.submit_sweep(
        plan,
        place,
        max_driver_restarts=max_driver_restarts,
        again=again,
        code=code,
        priority=priority,
    )
    _show_row(job.to_row(), as_json)
    where = f"{job.sweep_id}{_at(place)}"
    if not job.is_new:
        _say(_known_already(job, place))
    _say(f"follow it: kd-sweep watch {where}; stop it: kd-sweep stop {where}")


def status(
    context: typer.Context,
    sweep: Annotated[
        str | None, typer.Argument(metavar="[SWEEP]", autocompletion=completing.sweeps)
    ] = None,
    address: Here = None,
    as_json: AsJson = False,
) -> None:
    """Show how the sweeps are doing, or one of them with its trials by state.

    Example: kd-sweep status latest
    """
    place = place_on_cluster(context, address)
    if sweep is not None:
        _show_row(actions.follow.sweep_status(sweep, place).to_json(), as_json)
        return
    rows = [one.to_line() for one in actions.follow.list_statuses(place)]
    show(rows, tables.rows_view(rows), as_json)


def logs(
    context: typer.Context,
    sweep: Sweep,
    address: Here = None,
    follow: Annotated[bool, typer.Option("--follow", help="Until it ends.")] = False,
    trial: Annotated[int | None, typer.Option(help="Lines of this trial only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print what a sweep's driver wrote.

    With --json each line is an object.

    Example: kd-sweep logs latest --follow --trial 7
    """
    place = place_on_cluster(context, address)
    for line in actions.follow.read_logs(sweep, place, follow=follow, trial=trial):
        is_event = from_line(line) is not None
        typer.echo(json.dumps({"text": line}) if as_json and not is_event else printable(line))


def watch(
    context: typer.Context,
    sweep: Sweep,
    address: Here = None,
    html: Annotated[
        bool, typer.Option("--html", help="Keep its report fresh, for a browser beside it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a sweep as `run` shows it, until it ends; Ctrl-C only looks away.

    With --json each event is a line.

    Example: kd-sweep watch latest
    """
    place = place_on_cluster(context, address)
    fresh = actions.report.FreshReport(place, on_begin=_say_place) if html else None
    with WatchDisplay(Screen()) as display:
        show_event = _print_event if as_json else display.on_event

        def on_event(event: "RunEvent") -> None:
            show_event(event)
            if fresh is not None:
                fresh.take(event)

        ended = actions.follow.watch_sweep(sweep, place, on_event=on_event)
    if fresh is not None:
        fresh.finish()
    if ended.state is TrialState.CANCELLED:
        _say(f"sweep {ended.sweep_id} was stopped. {_go_on(ended.sweep_id, place)}")
        raise typer.Exit(STOPPED_EXIT_CODE)


def stop(
    context: typer.Context, sweep: Sweep, address: Here = None, as_json: AsJson = False
) -> None:
    """End a sweep: trials leave at their next step, and `resume` goes on from there.

    Example: kd-sweep stop latest
    """
    place = place_here_or_at(context, address)
    ended = actions.follow.stop_sweep(sweep, place)
    _show_row(ended.to_json(), as_json)
    if ended.state is TrialState.CANCELLED:
        _say(_go_on(ended.sweep_id, place))


def stop_trial(
    context: typer.Context,
    sweep: Sweep,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", min=0)],
    address: Here = None,
    as_json: AsJson = False,
) -> None:
    """Cancel one running trial of a sweep; the sweep goes on.

    Example: kd-sweep stop-trial latest 7
    """
    actions.follow.stop_trial(sweep, place_on_cluster(context, address), trial=trial)
    if as_json:
        show({"sweep": sweep, "trial": trial, "state": "cancelled"}, Text(), True)
    _say(f"trial {trial} is cancelled; train it again with: kd-sweep retry {sweep} {trial}")


def resume(
    context: typer.Context, sweep: Sweep, address: Here = None, as_json: AsJson = False
) -> None:
    """Go on with a sweep that was stopped, or whose driver or cluster died.

    Example: kd-sweep resume latest
    """
    place = place_here_or_at(context, address)
    _go_on_shown(as_json, partial(actions.go_on.resume_sweep, sweep, place))


def extend(
    context: typer.Context,
    sweep: Sweep,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="Of a search: how many more.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Of a study: how many more.")] = None,
    cells: Annotated[
        str | None,
        typer.Option(metavar="YAML", help="Of a study: more, as its file has them."),
    ] = None,
    address: Here = None,
    as_json: AsJson = False,
) -> None:
    """Give a search more trials, or a study more seeds or cells, also one that is finished.

    Example: kd-sweep extend latest --trials 20
    """
    place = place_here_or_at(context, address)
    more = None
    if seeds is not None or cells is not None:
        more = actions.go_on.read_more(seeds or 0, cells)
    extend_it = partial(actions.go_on.extend_sweep, sweep, place, trials=trials, study=more)
    _go_on_shown(as_json, extend_it)


def confirm(
    context: typer.Context,
    sweep: Sweep,
    top: Annotated[int, typer.Option(help="How many of its best configs.")] = 3,
    seeds: Annotated[int, typer.Option(help="How many fresh seeds each gets.")] = 5,
    address: Here = None,
    as_json: AsJson = False,
) -> None:
    """Train a search's best configs and its best control again, on seeds that it never saw.

    Example: kd-sweep confirm latest --top 3 --seeds 5
    """
    place = place_here_or_at(context, address)
    confirm_it = partial(actions.confirm.confirm_sweep, sweep, place, top=top, seeds=seeds)
    _go_on_shown(as_json, confirm_it)


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
    place = place_here_or_at(context, address)
    _go_on_shown(as_json, partial(actions.go_on.retry_trials, sweep, place, trials=trials or ()))


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


def _print_event(event: "RunEvent") -> None:
    """Prints an event as a line of JSON."""
    if isinstance(event, actions.run_result.SweepBegins):
        plan = event.plan
        begins = {"sweep_id": plan.sweep_id, "num_trials": plan.num_trials}
        typer.echo(json.dumps({"event": "SweepBegins"} | begins))
    else:
        typer.echo(to_line(event))


def _run_display(as_json: bool) -> RunDisplay:
    return RunDisplay(errors() if as_json else Screen())


def _show_row(document: Mapping[str, Any], as_json: bool) -> None:
    row = {name: as_typed(one) if isinstance(one, str) else one for name, one in document.items()}
    show(document, tables.rows_view([row]), as_json)


def _go_on_shown(as_json: bool, act: Callable[..., "RunResult | SweepJob"]) -> None:
    """Shows what an action does that goes on with a sweep, and what came of it."""
    with _run_display(as_json) as display:
        result = act(on_event=display.on_event, stop=display.stop)
    _show_result(result, as_json)


def _show_result(result: "RunResult | SweepJob", as_json: bool) -> None:
    """Shows what going on has come to: the end of a run here, or a job of the cluster."""
    if isinstance(result, actions.run_result.RunResult):
        show(result.to_json(), best_table.run_view(result), as_json)
        raise typer.Exit(result.exit_code)
    _show_row(result.to_json(), as_json)


def _known_already(job: "SweepJob", place: Workspace | Server) -> str:
    """Returns what to say of a sweep that was submitted once more, in the state it is in."""
    said = f"It was submitted before: its job {job.submission_id} is {job.state}. Nothing was "
    if job.state is TrialState.COMPLETED:
        then = f" Give it more trials: kd-sweep extend {job.sweep_id} --trials N{_at(place)}"
    else:
        then = f" {_go_on(job.sweep_id, place)}" if job.is_over else ""
    return f"{said}submitted now.{then}"


def _go_on(sweep_id: str, place: Workspace | Server) -> str:
    return f"Go on with: kd-sweep resume {sweep_id}{_at(place)}"


def _at(place: Workspace | Server) -> str:
    """Returns the option that has a command work where this one did; that of a service comes before
    the command, from `as_typed`."""
    cluster = None if isinstance(place, Server) else place.cluster
    return "" if cluster is None else f" --address {cluster.address}"


def _say_place(report: Path) -> None:
    _say(f"report: {report} (kept fresh while this watches)")


def _say(sentence: str) -> None:
    """Tells the user something that is no part of the result."""
    errors().print(Text(as_typed(sentence)), soft_wrap=True)
