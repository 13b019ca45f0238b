"""Sweeps that were started before: how they are doing, what their drivers write, and their end. On
the workspace's cluster when it has one, else on this machine: those that a `run` in another
process drives, or did."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.actions.record import open_record
from service.actions.run import OnEvent, SweepBegins, ignore
from service.cluster import dashboard
from service.cluster import job as jobs
from service.cluster.sweep_job import ERROR, SweepJob, all_jobs, find_job
from service.driver.lock import Holder, holder_of
from service.driver.log import log_lines
from service.driver.requests import ask_to_stop, not_running
from service.errors import JobError
from service.events import (
    SweepEnded,
    SweepGoesOn,
    TrialEnded,
    TrialEvaluated,
    TrialStarted,
    from_line,
)
from service.home import sweeps_folder
from service.plan.places import end_marker, sweep_folder
from service.record.plans import read_plan
from service.record.records import SweepRecord
from service.record.runs import Runs
from service.states import TrialState
from service.workspace import Workspace

# A driver's log may end a moment before its job does.
END_TIMEOUT_S = 10
# A driver here leaves within 15 s of being asked; on a busy machine later.
STOP_TIMEOUT_S = 120.0
POLL_S = 0.2


@dataclass(frozen=True)
class SweepStatus:
    """How a sweep is doing. `driver`: the job on a cluster, the process on this machine, None when
    nobody drives it here; `trials`: how many are in each state, empty where many sweeps are listed;
    `message`: why it failed."""

    sweep_id: str
    state: TrialState
    driver: str | None
    trials: dict[str, int] = field(default_factory=dict)
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns the row of `--json`."""
        return {
            "sweep_id": self.sweep_id,
            "state": str(self.state),
            "driver": self.driver,
            "trials": self.trials,
            "message": self.message or None,
        }


def list_statuses(workspace: Workspace) -> list[SweepStatus]:
    """Returns the status of every sweep that the cluster, or this machine's record, knows, the
    newest first."""
    if workspace.cluster is not None:
        known = all_jobs(dashboard.connect(workspace.cluster))
        newest = {job.sweep_id: job for job in known}
        return [_status_there(job) for job in reversed(newest.values())]
    runs = open_record(workspace)
    # Not `_folder`: the plans of a thousand sweeps are too much to read for a list.
    usual = sweeps_folder(workspace.home)
    return [_status_here(sweep, usual / sweep.sweep_id) for sweep in runs.sweeps()]


def sweep_status(sweep: str, workspace: Workspace) -> SweepStatus:
    """Returns how a sweep is doing, with its trials by state. sweep: id, unique beginning of one,
    name or `latest`. Raises `JobError`, here `TrackingError`, when there is none."""
    if workspace.cluster is not None:
        client, job = _find(sweep, workspace)
        return _status_there(job, count_trials(jobs.logs(client, job, follow=False)))
    runs = open_record(workspace)
    found = runs.resolve_sweep(sweep)
    counts = Counter(str(record.state) for record in runs.trials(found.sweep_id))
    return _status_here(found, _folder(found, runs, workspace), dict(sorted(counts.items())))


def read_logs(
    sweep: str, workspace: Workspace, *, follow: bool = False, trial: int | None = None
) -> Iterator[str]:
    """Yields the lines of a driver's log: those about `trial` alone if it is named, and until the
    driver ends with `follow`. Raises as `sweep_status`, and `JobError` where there is no log."""
    for line in _lines(sweep, workspace, follow=follow):
        if trial is None or _is_about(line, trial):
            yield line


def watch_sweep(sweep: str, workspace: Workspace, *, on_event: OnEvent = ignore) -> SweepStatus:
    """Calls `on_event` with the events of a sweep, those so far first, until its driver ends, and
    returns how it is then. Raises as `read_logs`, and `JobError` when its driver failed."""
    if workspace.cluster is not None:
        return _watch_there(*_find(sweep, workspace), on_event)
    plan = read_plan(open_record(workspace), sweep)
    on_event(SweepBegins(plan))
    _pass_on(_log_here(plan.sweep_id, sweep_folder(plan, workspace.home), follow=True), on_event)
    status = sweep_status(plan.sweep_id, workspace)
    if status.state is TrialState.FAILED:
        raise JobError(f"sweep {plan.sweep_id}: {status.message}")
    return status


def stop_sweep(sweep: str, workspace: Workspace) -> SweepStatus:
    """Stops a sweep and waits for its end: its trials leave at their next step, and `resume_sweep`
    goes on from there. Raises `JobError` when no driver runs, it does not end, or the cluster does
    not answer, `TrackingError` for an unknown sweep."""
    if workspace.cluster is not None:
        client, job = _find(sweep, workspace)
        return _status_there(jobs.stop(client, job))
    runs, folder, holder = _driven(sweep, workspace)
    ask_to_stop(folder)
    end = time.monotonic() + STOP_TIMEOUT_S
    while holder_of(folder) == holder:
        if time.monotonic() > end:
            raise JobError(
                f"sweep {folder.name}: its driver must end within {STOP_TIMEOUT_S:.0f} s of being "
                f"asked to, but {holder} still runs. Wait, or end it: what is finished is kept."
            )
        time.sleep(POLL_S)
    return sweep_status(folder.name, workspace)


def stop_trial(sweep: str, workspace: Workspace, *, trial: int) -> None:
    """Cancels one running trial of a sweep; the sweep goes on. Raises `JobError` when its driver,
    or the trial, does not run."""
    if workspace.cluster is not None:
        client, job = _find(sweep, workspace)
        jobs.stop_trial(client, job, trial)
        return
    runs, folder, holder = _driven(sweep, workspace)
    states = {record.trial: record.state for record in runs.trials(folder.name)}
    if states.get(trial) is not TrialState.RUNNING:
        raise JobError(not_running(folder.name, trial))
    request = ask_to_stop(folder, trial)
    while request.exists() and holder_of(folder) == holder:
        time.sleep(POLL_S)


def count_trials(lines: Iterable[str]) -> dict[str, int]:
    """Returns a sweep's trials by state, from the lines of its driver's log."""
    counts: Counter[str] = Counter()
    running: set[int] = set()
    for line in lines:
        match from_line(line):
            case SweepGoesOn(counts=before):
                counts.update(before)
            case TrialStarted(trial=trial):
                running.add(trial)
            case TrialEnded(trial=trial, state=state):
                running.discard(trial)
                counts[state] += 1
            case SweepEnded(summary=summary):
                return dict(summary.counts)
    return dict(counts) | ({"running": len(running)} if running else {})


def _find(sweep: str, workspace: Workspace) -> tuple[Any, SweepJob]:
    client = dashboard.connect(workspace.require_cluster())
    return client, find_job(client, sweep)


def _watch_there(client: Any, job: SweepJob, on_event: OnEvent) -> SweepStatus:
    on_event(SweepBegins(jobs.order_of(client, job).plan))
    _pass_on(jobs.logs(client, job, follow=True), on_event)
    job = jobs.wait(client, job, timeout_s=END_TIMEOUT_S)
    if job.state is TrialState.FAILED:
        raise JobError(f"sweep {job.sweep_id}: job {job.submission_id} failed: {job.message}")
    return _status_there(job)


def _pass_on(lines: Iterable[str], on_event: OnEvent) -> None:
    for line in lines:
        event = from_line(line)
        if event is not None:
            on_event(event)


def _lines(sweep: str, workspace: Workspace, *, follow: bool) -> Iterator[str]:
    if workspace.cluster is not None:
        return jobs.logs(*_find(sweep, workspace), follow=follow)
    runs = open_record(workspace)
    found = runs.resolve_sweep(sweep)
    return _log_here(found.sweep_id, _folder(found, runs, workspace), follow=follow)


def _log_here(sweep_id: str, folder: Path, *, follow: bool) -> Iterator[str]:
    is_empty = True
    for line in log_lines(folder, follow=follow):
        is_empty = False
        yield line
    if is_empty:
        raise JobError(
            f"sweep {sweep_id}: its driver's log must be in {folder}, but there is none. For a "
            "cluster's sweep give --address; an older version wrote none."
        )


def _driven(sweep: str, workspace: Workspace) -> tuple[Runs, Path, Holder]:
    """Returns the record, the sweep's folder, and who drives it there."""
    runs = open_record(workspace)
    found = runs.resolve_sweep(sweep)
    folder = _folder(found, runs, workspace)
    holder = holder_of(folder)
    if holder is None:
        raise JobError(
            f"sweep {found.sweep_id}: its driver must run on this machine to be stopped here, but "
            f"runs nowhere: the sweep is {found.state}. For a cluster's sweep give --address."
        )
    return runs, folder, holder


def _folder(sweep: SweepRecord, runs: Runs, workspace: Workspace) -> Path:
    """Returns the sweep's folder. Most are in the home folder: for those no plan is read."""
    usual = sweeps_folder(workspace.home) / sweep.sweep_id
    if usual.is_dir():
        return usual
    return sweep_folder(read_plan(runs, sweep.sweep_id), workspace.home)


def _status_there(job: SweepJob, trials: dict[str, int] | None = None) -> SweepStatus:
    return SweepStatus(job.sweep_id, job.state, job.submission_id, trials or {}, job.message)


def _status_here(
    sweep: SweepRecord, folder: Path, trials: dict[str, int] | None = None
) -> SweepStatus:
    holder = holder_of(folder)
    if holder is not None:
        return SweepStatus(sweep.sweep_id, TrialState.RUNNING, str(holder), trials or {})
    state = _state_without_driver(sweep, folder)
    message = ""
    if state is TrialState.FAILED:
        errors = [line for line in log_lines(folder) if line.startswith(ERROR)]
        reason = errors[-1].removeprefix(ERROR) if errors else "its driver is gone."
        message = f"{reason} Go on with: kd-sweep resume {sweep.sweep_id}"
    return SweepStatus(sweep.sweep_id, state, None, trials or {}, message)


def _state_without_driver(sweep: SweepRecord, folder: Path) -> TrialState:
    """Returns the state of a sweep that nobody drives on this machine."""
    state = TrialState(sweep.state)
    if state.is_terminal or not folder.is_dir():
        return state
    # The record does not know of the end: it waits in the spool, or the driver was killed.
    marker = end_marker(folder)
    return TrialState(marker.read_text()) if marker.exists() else TrialState.FAILED


def _is_about(line: str, trial: int) -> bool:
    event = from_line(line)
    about = isinstance(event, TrialStarted | TrialEvaluated | TrialEnded) and event.trial == trial
    return about or (event is not None and f"trial {trial} " in json.loads(line).get("text", ""))
