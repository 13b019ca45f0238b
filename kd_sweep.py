"""kd-sweep from Python and notebooks: the everyday commands as functions of the same names.

Each hands on one action of `service.actions`, which has all the others, and returns what it
returns. Where no `workspace` is given it is the command line's: that of the environment
(KD_SWEEP_HOME, KD_SWEEP_PROFILE, MLFLOW_TRACKING_URI, …) and of the current folder, or the service
that it names; `connect` has the functions for one. Errors are the command line's, too. Whatever
takes seconds to load is loaded by the function that needs it.
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, update_wrapper
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from service import actions, errors
from service.cli.shown import run_shown, watch_shown
from service.frames import Rows
from service.workspace import Cluster, Server, Workspace, find_cluster

if TYPE_CHECKING:
    from service.actions.record import SweepTrials
    from service.actions.report import Report
    from service.actions.run_result import OnEvent, RunResult
    from service.actions.status import SweepStatus
    from service.cluster.sweep_job import SweepJob
    from service.evaluation.evaluate import SetResult
    from service.evaluation.judges import Judge
    from service.plan.plan import SweepPlan
    from service.record.records import SweepRecord
    from service.rerun.export import Exported
    from service.rerun.rerun import RerunResult
    from service.results.best import Best
    from service.results.compare import Comparison

# What a service does for its users.
OFFERED = ["plan", "run", "confirm", "submit", "watch", "status", "stop", "resume", "extend"]
OFFERED += ["retry", "sweeps", "trials", "best", "compare", "report"]
__all__ = ["Cluster", "Server", "Workspace", "actions", "errors", "connect", "workspace"]
__all__ += ["rerun", "evaluate", "export", *OFFERED]


def workspace(
    *, home: Path | str | None = None, profile: str | None = None, address: str | None = None
) -> Workspace:
    """Returns where sweeps are read, run and recorded: what the environment says, but for what is
    given here.

    home: the folder of all that sweeps make; profile: a cluster's name in `kd-sweep.toml`; address:
    URL of a Ray cluster's dashboard. Raises `SpecError` for an unknown profile, and where the
    environment or the profile names a service: it has no workspace here.
    """
    environment = _environment(profile)
    found = Workspace.from_environment(environment, Path.cwd())
    if home is not None:
        found = replace(found, home=Path(home))
    return found.on(find_cluster(address, environment)) if address else found


def connect(url: str | None = None, token: str | None = None) -> SimpleNamespace:
    """Returns those functions of this module that a service offers (`OFFERED`), for the sweeps of
    the one at `url` (`kd-sweep serve`), e.g. `connect(url).best("latest")`.

    token: what you are known by there; what is not given is that of KD_SWEEP_SERVER and
    KD_SWEEP_TOKEN, or of the profile. Raises `SpecError` for what is no address or token.
    """
    server = Server.from_environment(_environment(server=url), Path.cwd(), token=token)
    if server is None:
        raise errors.SpecError(
            "connect: the address of a service must be given, but got none. Give it, or set "
            "KD_SWEEP_SERVER."
        )
    bound = {name: partial(globals()[name], workspace=server) for name in OFFERED}
    return SimpleNamespace(**{name: update_wrapper(one, one.func) for name, one in bound.items()})


def plan(
    sweep: Path | str,
    *,
    overrides: Sequence[str] = (),
    code: Path | None = None,
    warm_start: str | None = None,
    workspace: Workspace | Server | None = None,
) -> "SweepPlan":
    """Returns the plan of a sweep file or preset: `service.actions.plan.plan_sweep`."""
    place = _at(workspace)
    return actions.plan.plan_sweep(
        str(sweep), place, overrides=overrides, code=code, warm_start=warm_start
    )


def run(
    sweep: "SweepPlan | Path | str",
    *,
    overrides: Sequence[str] = (),
    warm_start: str | None = None,
    again: bool = False,
    display: bool = True,
    on_event: "OnEvent | None" = None,
    stop: threading.Event | None = None,
    workspace: Workspace | Server | None = None,
) -> "RunResult":
    """Runs a plan, sweep file or preset to its end, on this machine or through a service. See
    `service.actions.run.run_sweep`.

    warm_start: see `plan`; display: shows its progress, live in a notebook and on a terminal;
    on_event: also gets each event; stop: set from elsewhere, or by an interrupt, it ends the sweep
    cleanly.
    """
    place = _at(workspace)
    made = _planned(sweep, overrides, warm_start, place)
    with run_shown(display, on_event, stop) as (take, stopped):
        return actions.run.run_sweep(made, place, again=again, on_event=take, stop=stopped)


def resume(
    sweep: str,
    *,
    display: bool = True,
    on_event: "OnEvent | None" = None,
    stop: threading.Event | None = None,
    workspace: Workspace | Server | None = None,
) -> "RunResult | SweepJob":
    """Goes on with a sweep that was stopped, or whose driver died; see `run` and
    `service.actions.go_on.resume_sweep`."""
    with run_shown(display, on_event, stop) as (take, stopped):
        return actions.go_on.resume_sweep(sweep, _at(workspace), on_event=take, stop=stopped)


def extend(
    sweep: str,
    *,
    trials: int | None = None,
    seeds: int = 0,
    cells: Sequence[Mapping[str, Any]] = (),
    display: bool = True,
    on_event: "OnEvent | None" = None,
    stop: threading.Event | None = None,
    workspace: Workspace | Server | None = None,
) -> "RunResult | SweepJob":
    """Gives a search so many more trials, or a study more seeds or cells, and goes on with it; see
    `run` and `service.actions.go_on.extend_sweep`."""
    more = actions.go_on.MoreOfStudy(seeds, tuple(cells)) if seeds or cells else None
    with run_shown(display, on_event, stop) as (take, stopped):
        return actions.go_on.extend_sweep(
            sweep, _at(workspace), trials=trials, study=more, on_event=take, stop=stopped
        )


def confirm(
    sweep: str,
    *,
    top: int = 3,
    seeds: int = 5,
    display: bool = True,
    on_event: "OnEvent | None" = None,
    stop: threading.Event | None = None,
    workspace: Workspace | Server | None = None,
) -> "RunResult | SweepJob":
    """Trains a search's best configs and its best control again on fresh seeds; see `run` and
    `service.actions.confirm.confirm_sweep`."""
    with run_shown(display, on_event, stop) as (take, stopped):
        return actions.confirm.confirm_sweep(
            sweep, _at(workspace), top=top, seeds=seeds, on_event=take, stop=stopped
        )


def retry(
    sweep: str,
    *,
    trials: Sequence[int] = (),
    display: bool = True,
    on_event: "OnEvent | None" = None,
    stop: threading.Event | None = None,
    workspace: Workspace | Server | None = None,
) -> "RunResult | SweepJob":
    """Repeats trials, all failed ones where none are named; see `run` and
    `service.actions.go_on.retry_trials`."""
    with run_shown(display, on_event, stop) as (take, stopped):
        return actions.go_on.retry_trials(
            sweep, _at(workspace), trials=trials, on_event=take, stop=stopped
        )


def stop(sweep: str, *, workspace: Workspace | Server | None = None) -> "SweepStatus":
    """Stops a sweep, here or on the workspace's cluster, and waits for its end. See
    `service.actions.follow.stop_sweep`."""
    return actions.follow.stop_sweep(sweep, _at(workspace))


def submit(
    sweep: "SweepPlan | Path | str",
    *,
    overrides: Sequence[str] = (),
    warm_start: str | None = None,
    max_driver_restarts: int = 1,
    again: bool = False,
    code: Path | None = None,
    priority: str | None = None,
    workspace: Workspace | Server | None = None,
) -> "SweepJob":
    """Hands a plan made for the cluster, a sweep file or a preset to the workspace's cluster, and
    returns its job. See `service.actions.cluster.plan_on_cluster` and `submit_sweep`."""
    place = _on_cluster(workspace)
    made = (
        actions.cluster.plan_on_cluster(
            str(sweep), place, overrides=overrides, code=code, warm_start=warm_start
        )
        if isinstance(sweep, Path | str)
        else _as_it_is(sweep, overrides, warm_start)
    )
    return actions.cluster.submit_sweep(
        made,
        place,
        max_driver_restarts=max_driver_restarts,
        again=again,
        code=code,
        priority=priority,
    )


def status(sweep: str, *, workspace: Workspace | Server | None = None) -> "SweepStatus":
    """Returns how a sweep is doing, here or on the workspace's cluster. See
    `service.actions.follow.sweep_status`."""
    return actions.follow.sweep_status(sweep, _on_cluster(workspace))


def watch(
    sweep: str, *, on_event: "OnEvent | None" = None, workspace: Workspace | Server | None = None
) -> "SweepStatus":
    """Shows a sweep, here or on the workspace's cluster, until it ends, and returns how it is then.
    See `service.actions.follow.watch_sweep`."""
    with watch_shown(on_event) as take:
        return actions.follow.watch_sweep(sweep, _on_cluster(workspace), on_event=take)


def sweeps(*, workspace: Workspace | Server | None = None) -> "Rows[SweepRecord]":
    """Returns the recorded sweeps, the newest first. See `service.actions.record.list_sweeps`."""
    return Rows(actions.record.list_sweeps(_at(workspace)))


def trials(sweep: str = "latest", *, workspace: Workspace | Server | None = None) -> "SweepTrials":
    """Returns a sweep with its trials. See `service.actions.record.list_trials`."""
    return actions.record.list_trials(sweep, _at(workspace))


def best(
    sweep: str = "latest",
    *,
    metric: str | tuple[str | None, str] | None = None,
    where: Sequence[str] = (),
    per: str | None = None,
    top: int | None = None,
    workspace: Workspace | Server | None = None,
) -> "Best":
    """Returns the best trials of a sweep, or of `all`; metric: a name, or (name, "maximize"). See
    `service.actions.record.best_trials`."""
    return actions.record.best_trials(
        sweep, _at(workspace), metric=metric, where=where, per=per, top=top
    )


def compare(
    trials: Sequence[str],
    *,
    significance: bool = False,
    metric: str | None = None,
    control: str | None = None,
    examples: bool = False,
    workspace: Workspace | Server | None = None,
) -> "Comparison":
    """Returns what differs between trials (run ids, or SWEEP/NUMBER), and with `significance` what
    the seeds of these, or of whole sweeps, say. See `service.actions.record.compare_trials`."""
    return actions.record.compare_trials(
        trials,
        _at(workspace),
        significance=significance,
        metric=metric,
        control=control,
        examples=examples,
    )


def report(
    sweep: str = "latest",
    *,
    output: Path | str | None = None,
    pictures: Path | str | None = None,
    workspace: Workspace | Server | None = None,
) -> "Report":
    """Returns the report of a sweep, which a notebook shows as a page. output: a file that the page
    is written to, too; pictures: a folder for each chart as PNG and SVG. See
    `service.actions.report.make_report`."""
    place = _at(workspace)
    made = actions.report.make_report(
        sweep, place, pictures=None if pictures is None else Path(pictures)
    )
    return made if output is None else actions.report.write_report(made, place, output=Path(output))


def rerun(
    run: str,
    *,
    image: str | None = None,
    local: bool = False,
    device: str | None = None,
    keep: bool = False,
    mounts: Mapping[str, Path] | None = None,
    on_line: Callable[[str], None] = lambda line: None,
    workspace: Workspace | None = None,
) -> "RerunResult":
    """Trains a recorded trial again; `judgement` says whether its numbers are the same. See
    `service.actions.rerun.RerunRequest` and `rerun_trial`."""
    request = actions.rerun.RerunRequest(run, image, local, device, keep, dict(mounts or {}))
    return actions.rerun.rerun_trial(request, _here(workspace), on_line=on_line)


def evaluate(
    trials: Sequence[str],
    *,
    on: Sequence[str] = (),
    harness: Sequence[str] = (),
    split: str = "test",
    fields: Mapping[str, object] | None = None,
    student: Path | None = None,
    again: bool = False,
    harness_tasks: Path | None = None,
    at_temperatures: bool = False,
    judge: "Judge | None" = None,
    say: Callable[[str], None] = lambda line: None,
    workspace: Workspace | None = None,
) -> "list[SetResult]":
    """Measures the students of trials on evaluation sets, which report once and never select. See
    `service.actions.evaluate.HowToEvaluate` and `evaluate_trials`."""
    how = actions.evaluate.HowToEvaluate(
        split, fields or {}, student, again, harness_tasks, at_temperatures, judge
    )
    return actions.evaluate.evaluate_trials(
        trials, _here(workspace), on=on, harness=harness, how=how, say=say
    )


def export(
    run: str, folder: Path | str, *, merge: bool = False, workspace: Workspace | None = None
) -> "Exported":
    """Writes a trial into a folder that reproduces it. See `service.actions.rerun.export_trial`."""
    return actions.rerun.export_trial(run, _here(workspace), folder=Path(folder), merge=merge)


def _environment(profile: str | None = None, server: str | None = None) -> dict[str, str]:
    from service.cli.environment import PROFILE_VARIABLE, environment_with

    return environment_with(profile or os.environ.get(PROFILE_VARIABLE) or None, server)


def _here(given: Workspace | None) -> Workspace:
    return given or workspace()


def _server() -> Server | None:
    return Server.from_environment(_environment(), Path.cwd())


def _at(given: Workspace | Server | None) -> Workspace | Server:
    return given or _server() or workspace()


def _on_cluster(given: Workspace | Server | None) -> Workspace | Server:
    """Returns the place for what needs a cluster, which Ray's own variable may name, too."""
    return given or _server() or workspace().on(find_cluster(None, _environment()))


def _planned(
    sweep: "SweepPlan | Path | str",
    overrides: Sequence[str],
    warm_start: str | None,
    place: Workspace | Server,
) -> "SweepPlan":
    if isinstance(sweep, Path | str):
        return plan(sweep, overrides=overrides, warm_start=warm_start, workspace=place)
    return _as_it_is(sweep, overrides, warm_start)


def _as_it_is(made: "SweepPlan", overrides: Sequence[str], warm_start: str | None) -> "SweepPlan":
    name = "overrides" if overrides else "warm_start"
    if overrides or warm_start is not None:
        raise errors.SpecError(
            f"{name}: must be given where the sweep is planned, but got it with a plan that is "
            "made. Give it to kd_sweep.plan, or name the sweep's file here."
        )
    return made
