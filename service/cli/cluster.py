"""The commands for Ray clusters and for sweeps that were begun before."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType

from service.cli import tables
from service.errors import JobError
from service.events import SweepEnded, TrialEnded, TrialEvaluated, TrialStarted, from_line
from service.home import home_folder

if TYPE_CHECKING:
    from service.cluster.job import SweepJob
    from service.driver.study_changes import StudyChanges
    from service.plan.plan import SweepPlan
    from service.record.runs import Runs

Show = Callable[[Any, RenderableType, bool], None]
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
Sweep = Annotated[str, typer.Argument(metavar="SWEEP", help="Id, beginning of one, or latest.")]
Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A sweep file, or a preset's name.")]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="A.B=VALUE", help="Override a field; repeatable.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Restarts = Annotated[int, typer.Option(min=0, help="Start a dead driver again so often.")]
From = Annotated[
    str | None, typer.Option("--from", metavar="SWEEP", help="Let the sampler start with it.")
]


def add_commands(app: typer.Typer, open_runs: Callable[[], "Runs"], show: Show) -> None:
    """Adds the commands to `app`; `open_runs` opens the record, `show` prints JSON or a view."""
    _add_submit(app, show)
    _add_status(app, show)
    _add_logs(app)
    _add_stops(app, open_runs, show)
    _add_returns(app, open_runs, show)
    _add_retry(app, open_runs, show)
    _add_inner(app)


def _add_submit(app: typer.Typer, show: Show) -> None:
    @app.command()
    def submit(
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
        where = _address(address)
        plan = _plan_there(spec, set_, where, warm_start=from_, code=code)
        _ask(plan, yes)
        order = {"warm_start": from_, "max_driver_restarts": max_driver_restarts}
        made = _hand_over(plan, where, order, again=again, code=code)
        show(_job_json(made), tables.rows_view([_job_json(made)]), as_json)
        _errors().print(
            f"follow it: kd-sweep watch {made.sweep_id} --address {where}; "
            f"stop it: kd-sweep stop {made.sweep_id} --address {where}"
        )


def _address(given: str | None) -> str:
    from service.cluster.job import find_address

    return find_address(given)


def _plan_there(
    spec: str, overrides: list[str], address: str, *, warm_start: str | None, code: Path | None
) -> "SweepPlan":
    """Returns the plan for the cluster at `address`, which must be able to hold it."""
    from service.actions.go_on import warmed
    from service.actions.plan import plan_here
    from service.cluster import job as jobs

    jobs.connect(address)
    there = jobs.cluster_resources(address)
    plan = plan_here(
        spec, overrides, folder=Path.cwd(), home=home_folder(), cluster=there, code=code
    )
    jobs.check_workers_fit(plan, address)
    return warmed(plan, warm_start) if warm_start else plan


def _hand_over(
    plan: "SweepPlan", address: str, order: dict[str, Any], *, again: bool, code: Path | None
) -> "SweepJob":
    from service.cluster import job as jobs
    from service.driver.study_changes import StudyChanges

    made = jobs.JobOrder(
        plan=plan,
        changes=StudyChanges(warm_start=order["warm_start"]),
        max_driver_restarts=order["max_driver_restarts"],
    )
    return jobs.submit(jobs.connect(address), made, again=again, code=code)


def _add_status(app: typer.Typer, show: Show) -> None:
    @app.command()
    def status(
        sweep: Annotated[str | None, typer.Argument(metavar="[SWEEP]")] = None,
        address: Address = None,
        as_json: AsJson = False,
    ) -> None:
        """Show the sweeps that a cluster knows, or one with its trials by state.

        Example: kd-sweep status latest --address http://head:8265
        """
        from service.cluster import job as jobs

        client = jobs.connect(jobs.find_address(address))
        if sweep is None:
            rows = [_job_json(each) for each in jobs.all_jobs(client)]
            show(rows, tables.rows_view(rows), as_json)
            return
        found = jobs.find_job(client, sweep)
        row = _job_json(found) | {"trials": _counts(client, found)}
        show(row, tables.rows_view([row]), as_json)


def _add_logs(app: typer.Typer) -> None:
    @app.command()
    def logs(
        sweep: Sweep,
        address: Address = None,
        follow: Annotated[bool, typer.Option("--follow", help="Until it ends.")] = False,
        trial: Annotated[int | None, typer.Option(help="Lines of this trial only.")] = None,
    ) -> None:
        """Print what a sweep's driver wrote.

        Example: kd-sweep logs latest --follow --trial 7
        """
        from service.cluster import job as jobs

        client = jobs.connect(jobs.find_address(address))
        for line in jobs.logs(client, jobs.find_job(client, sweep), follow=follow):
            if trial is None or _is_about(line, trial):
                typer.echo(line)

    @app.command()
    def watch(sweep: Sweep, address: Address = None) -> None:
        """Show a sweep on a cluster as `run` shows one here, until it ends; Ctrl-C only looks away.

        Example: kd-sweep watch latest --address http://head:8265
        """
        _watch(sweep, address)


def _watch(sweep: str, address: str | None) -> None:
    from service.cli.display import Progress, display_on
    from service.cluster import job as jobs

    client = jobs.connect(jobs.find_address(address))
    job = jobs.find_job(client, sweep)
    plan = jobs.order_of(client, job).plan
    with display_on(Console(), Progress(plan, time.monotonic)) as display:
        for line in jobs.logs(client, job, follow=True):
            event = from_line(line)
            if event is not None:
                display.on_event(event)
    _raise_if_failed(jobs.wait(client, job, timeout_s=10))


def _add_stops(app: typer.Typer, open_runs: Callable[[], "Runs"], show: Show) -> None:
    @app.command()
    def stop(sweep: Sweep, address: Here = None, as_json: AsJson = False) -> None:
        """End a sweep: trials leave at their next step, and `resume` goes on from there.

        Example: kd-sweep stop latest
        """
        from service.actions.go_on import recorded_plan, stop_here
        from service.cluster import job as jobs

        if address is None:
            plan = recorded_plan(open_runs(), sweep)
            row: dict[str, Any] = {"sweep_id": plan.sweep_id, "pid": stop_here(plan, home_folder())}
        else:
            client = jobs.connect(jobs.find_address(address))
            row = _job_json(jobs.stop(client, jobs.find_job(client, sweep)))
        show(row, tables.rows_view([row]), as_json)

    @app.command(name="stop-trial")
    def stop_trial(
        sweep: Sweep,
        trial: Annotated[int, typer.Argument(metavar="TRIAL", min=0)],
        address: Address = None,
    ) -> None:
        """Cancel one running trial of a sweep on a cluster; the sweep goes on.

        Example: kd-sweep stop-trial latest 7 --address http://head:8265
        """
        from service.cluster import job as jobs

        client = jobs.connect(jobs.find_address(address))
        jobs.stop_trial(client, jobs.find_job(client, sweep), trial)


def _add_returns(app: typer.Typer, open_runs: Callable[[], "Runs"], show: Show) -> None:
    @app.command()
    def resume(sweep: Sweep, address: Here = None, as_json: AsJson = False) -> None:
        """Go on with a sweep that was stopped, or whose driver or cluster died.

        Example: kd-sweep resume latest
        """
        from service.actions.go_on import recorded_plan
        from service.driver.study_changes import StudyChanges

        plan = recorded_plan(open_runs(), sweep)
        _go_on(plan, StudyChanges(), address, show=show, as_json=as_json)

    @app.command()
    def extend(
        sweep: Sweep,
        trials: Annotated[int, typer.Option("--trials", min=1, help="How many more.")],
        address: Here = None,
        as_json: AsJson = False,
    ) -> None:
        """Give a sweep more trials, also one that is finished.

        Example: kd-sweep extend latest --trials 20
        """
        from service.actions.go_on import extended, recorded_plan
        from service.driver.study_changes import StudyChanges

        plan = extended(recorded_plan(open_runs(), sweep), trials)
        _go_on(plan, StudyChanges(), address, show=show, as_json=as_json)


def _add_retry(app: typer.Typer, open_runs: Callable[[], "Runs"], show: Show) -> None:
    @app.command()
    def retry(
        sweep: Sweep,
        trials: Annotated[list[int] | None, typer.Argument(metavar="[TRIAL…]")] = None,
        address: Here = None,
        as_json: AsJson = False,
    ) -> None:
        """Repeat trials that failed, diverged or were cancelled; without numbers all failed ones.

        Example: kd-sweep retry latest 3 9
        """
        from service.actions.go_on import recorded_plan
        from service.driver.study_changes import StudyChanges

        changes = StudyChanges(retry=tuple(trials or ()), retry_failed=not trials)
        plan = recorded_plan(open_runs(), sweep)
        _go_on(plan, changes, address, show=show, as_json=as_json)


def _go_on(
    plan: "SweepPlan", changes: "StudyChanges", address: str | None, *, show: Show, as_json: bool
) -> None:
    from service.cluster import job as jobs

    if address is None:
        from service.actions.run import execute

        console = _errors() if as_json else Console()
        result = execute(plan, home=home_folder(), console=console, changes=changes)
        show(result.to_json(), result.view(), as_json)
        raise typer.Exit(result.exit_code)
    client = jobs.connect(jobs.find_address(address))
    order = jobs.JobOrder(plan=plan, changes=changes, max_driver_restarts=1)
    made = jobs.submit(client, order, again=True)
    show(_job_json(made), tables.rows_view([_job_json(made)]), as_json)


def _add_inner(app: typer.Typer) -> None:
    @app.command(hidden=True)
    def drive(
        order: Path, child: Annotated[bool, typer.Option("--child", hidden=True)] = False
    ) -> None:
        """Run a job's order; what `submit` makes the cluster call."""
        from service.cluster.drive import drive as run_order

        raise typer.Exit(run_order(order, typer.echo, is_child=child))

    @app.command(hidden=True)
    def control(sweep_id: str, words: list[str]) -> None:
        """Say something to a driver; what `stop` makes the cluster call."""
        from service.cluster.drive import control as say_to

        say_to(sweep_id, words)


def _ask(plan: "SweepPlan", yes: bool) -> None:
    errors = _errors()
    errors.print(tables.plan_view(plan))
    if not yes:
        typer.confirm("Submit it?", abort=True, err=True)


def _job_json(job: "SweepJob") -> dict[str, Any]:
    row: dict[str, Any] = {"sweep_id": job.sweep_id, "job": job.submission_id, "status": job.status}
    row |= {"is_new": job.is_new}
    return row | ({"message": job.message} if job.message and job.status == "FAILED" else {})


def _counts(client: Any, job: "SweepJob") -> dict[str, int]:
    """Returns the sweep's trials by state, as its driver told them in its log."""
    from service.cluster import job as jobs

    counts: dict[str, int] = {}
    running: set[int] = set()
    for line in jobs.logs(client, job, follow=False):
        event = from_line(line)
        if isinstance(event, TrialStarted):
            running.add(event.trial)
        if isinstance(event, TrialEnded):
            running.discard(event.trial)
            counts[event.state] = counts.get(event.state, 0) + 1
        if isinstance(event, SweepEnded):
            return dict(event.summary.counts)
    return counts | ({"running": len(running)} if running else {})


def _is_about(line: str, trial: int) -> bool:
    event = from_line(line)
    about = isinstance(event, TrialStarted | TrialEvaluated | TrialEnded) and event.trial == trial
    return about or (event is not None and f"trial {trial} " in json.loads(line).get("text", ""))


def _raise_if_failed(job: "SweepJob") -> None:
    if job.status == "FAILED":
        raise JobError(f"sweep {job.sweep_id}: job {job.submission_id} failed: {job.message}")


def _errors() -> Console:
    return Console(stderr=True, highlight=False)
