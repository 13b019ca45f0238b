"""Sweeps that were started before: how they are doing, what their drivers write, and their end. On
the workspace's cluster when it has one, else on this machine: those that a `run` in another process
drives, or did; or those of a service."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.actions.record import open_record
from service.actions.run_result import OnEvent, SweepBegins, ignore
from service.actions.status import SweepStatus, count_trials
from service.client.asking import ask, ask_all, route, tell
from service.client.sending import Request, send
from service.client.streaming import stream
from service.cluster import dashboard
from service.cluster import job as jobs
from service.cluster.sweep_job import ERROR, SweepJob, all_jobs, find_job
from service.driver.lock import Holder, holder_of, plan_in, plans_here
from service.driver.log import LogPart, log_lines, log_part
from service.driver.requests import ask_to_stop, not_running
from service.errors import JobError
from service.events import (
    Notice,
    TrialAdvanced,
    TrialEnded,
    TrialEvaluated,
    TrialStarted,
    from_line,
)
from service.home import sweeps_folder
from service.plan.places import end_marker, sweep_folder
from service.plan.plan import SweepPlan
from service.record.plans import read_plan
from service.record.records import SweepRecord
from service.record.runs import Runs
from service.states import TrialState
from service.which import sweeps_meant
from service.wire import PROBLEM
from service.workspace import Server, Workspace

# A driver's log may end a moment before its job does.
END_TIMEOUT_S = 10
# A driver here leaves within 15 s of being asked; on a busy machine later.
STOP_TIMEOUT_S = 120.0
POLL_S = 0.2
OF_A_TRIAL = (TrialStarted, TrialAdvanced, TrialEvaluated, TrialEnded)


@dataclass(frozen=True)
class SweepHere:
    """A sweep as this machine's record has it, and its folder."""

    sweep_id: str
    state: TrialState
    folder: Path


class LogReader:
    """The log of a sweep's newest driver, read part after part without waiting for more: here the
    file in `folder`, on a cluster what its dashboard keeps of `job`."""

    def __init__(self, folder: Path | None, client: Any = None, job: SweepJob | None = None):
        self._folder, self._client, self._job = folder, client, job

    def read(self, after: str = "") -> LogPart:
        """Returns the lines behind the place that an earlier part ended at. Raises `JobError` when
        the cluster does not answer."""
        if self._folder is not None:
            return log_part(self._folder, after)
        assert self._job is not None
        lines = list(jobs.logs(self._client, self._job, follow=False))
        known = int(after) if after.isascii() and after.isdigit() else 0
        return LogPart(lines[known:], str(max(known, len(lines))))

    def is_driven(self) -> bool:
        """Returns whether more may come: its driver runs."""
        if self._folder is not None:
            return holder_of(self._folder) is not None
        assert self._job is not None
        return not find_job(self._client, self._job.sweep_id).is_over


def open_log(sweep: str, workspace: Workspace) -> LogReader:
    """Returns what reads the log of a sweep's newest driver. Raises as `sweep_status`."""
    if workspace.cluster is not None:
        return LogReader(None, *_find(sweep, workspace))
    return LogReader(_find_here(sweep, open_record(workspace), workspace).folder)


def list_statuses(workspace: Workspace | Server) -> list[SweepStatus]:
    """Returns the status of every sweep that the service, the cluster, or this machine's record
    knows, the newest first."""
    if isinstance(workspace, Server):
        return ask_all(workspace, route("status"), SweepStatus)
    if workspace.cluster is not None:
        newest = {job.sweep_id: job for job in all_jobs(dashboard.connect(workspace.cluster))}
        return [_status_there(job) for job in reversed(newest.values())]
    recorded = open_record(workspace).sweeps()
    # Not `_folder_of`: the plans of a thousand sweeps are too much to read for a list.
    usual = sweeps_folder(workspace.home)
    known = [(sweep.sweep_id, TrialState(sweep.state)) for sweep in recorded]
    begun = [(plan.sweep_id, TrialState.RUNNING) for plan in _unrecorded(recorded, workspace)]
    return [_status_here(SweepHere(name, state, usual / name)) for name, state in begun + known]


def sweep_status(sweep: str, workspace: Workspace | Server) -> SweepStatus:
    """Returns how a sweep is doing, with its trials by state. sweep: id, unique beginning of one,
    name or `latest`. Raises `JobError`, here `TrackingError`, when there is none."""
    if isinstance(workspace, Server):
        return ask(workspace, route("sweeps", sweep, "status"), SweepStatus)
    if workspace.cluster is not None:
        client, job = _find(sweep, workspace)
        return _status_there(job, count_trials(jobs.logs(client, job, follow=False)))
    runs = open_record(workspace)
    return _status_with_trials(_find_here(sweep, runs, workspace), runs)


def read_logs(
    sweep: str, workspace: Workspace | Server, *, follow: bool = False, trial: int | None = None
) -> Iterator[str]:
    """Yields the lines of a driver's log: those about `trial` alone if it is named, and until the
    driver ends with `follow`. Raises as `sweep_status`, and `JobError` where there is no log."""
    for line in _lines(sweep, workspace, follow=follow):
        if trial is None or _is_about(line, trial):
            yield line


def watch_sweep(
    sweep: str, workspace: Workspace | Server, *, on_event: OnEvent = ignore
) -> SweepStatus:
    """Calls `on_event` with the events of a sweep, those so far first, until its driver ends, and
    returns how it is then. Raises as `read_logs`, and `JobError` when its driver failed."""
    if isinstance(workspace, Server):
        return _watch_through(workspace, sweep, on_event)
    if workspace.cluster is not None:
        return _watch_there(*_find(sweep, workspace), on_event)
    runs = open_record(workspace)
    found = _find_here(sweep, runs, workspace)
    on_event(SweepBegins(plan_in(found.folder) or read_plan(runs, found.sweep_id)))
    _pass_on(_log_here(found, follow=True), on_event)
    status = _status_at_end(found, runs)
    if status.state is TrialState.FAILED:
        raise JobError(f"sweep {found.sweep_id}: {status.message}")
    return status


def stop_sweep(sweep: str, workspace: Workspace | Server) -> SweepStatus:
    """Stops a sweep and waits for its end: its trials leave at their next step, and `resume_sweep`
    goes on from there. Raises `JobError` when no driver runs, it does not end, or the cluster does
    not answer, `TrackingError` for an unknown sweep."""
    if isinstance(workspace, Server):
        path = route("sweeps", sweep, "stop")
        return tell(workspace, path, SweepStatus, is_repeatable=False)
    if workspace.cluster is not None:
        client, job = _find(sweep, workspace)
        ended = jobs.stop(client, job)
        return _status_there(ended, count_trials(jobs.logs(client, ended, follow=False)))
    runs = open_record(workspace)
    found, holder = _driven(sweep, runs, workspace)
    ask_to_stop(found.folder)
    end = time.monotonic() + STOP_TIMEOUT_S
    while holder_of(found.folder) == holder:
        if time.monotonic() > end:
            raise JobError(
                f"sweep {found.sweep_id}: its driver must end within {STOP_TIMEOUT_S:.0f} s of "
                f"being asked to, but {holder} still runs. Wait, or end it: what is finished is "
                "kept."
            )
        time.sleep(POLL_S)
    return _status_at_end(found, runs)


def stop_trial(sweep: str, workspace: Workspace | Server, *, trial: int) -> None:
    """Cancels one running trial of a sweep; the sweep goes on. Raises `JobError` when its driver,
    or the trial, does not run."""
    if isinstance(workspace, Server):
        path = route("sweeps", sweep, "trials", trial, "stop")
        tell(workspace, path, str, is_repeatable=False)
        return
    if workspace.cluster is not None:
        client, job = _find(sweep, workspace)
        jobs.stop_trial(client, job, trial)
        return
    runs = open_record(workspace)
    found, holder = _driven(sweep, runs, workspace)
    states = {record.trial: record.state for record in runs.trials(found.sweep_id)}
    if states.get(trial) is not TrialState.RUNNING:
        raise JobError(not_running(found.sweep_id, trial))
    request = ask_to_stop(found.folder, trial)
    while request.exists() and holder_of(found.folder) == holder:
        time.sleep(POLL_S)


def _find(sweep: str, workspace: Workspace) -> tuple[Any, SweepJob]:
    client = dashboard.connect(workspace.require_cluster())
    return client, find_job(client, sweep)


def _watch_through(server: Server, sweep: str, on_event: OnEvent) -> SweepStatus:
    plan = ask(server, route("sweeps", sweep, "plan"), SweepPlan)
    on_event(SweepBegins(plan))

    def on_away() -> None:
        on_event(Notice(f"{server.address} does not answer; this goes on once it is back"))

    _pass_on(_lines_through(server, plan.sweep_id, on_away), on_event)
    status = sweep_status(plan.sweep_id, server)
    if status.state is TrialState.FAILED:
        raise JobError(f"sweep {status.sweep_id}: {status.message}")
    return status


def _lines_through(server: Server, sweep: str, on_away: Callable[[], None]) -> Iterator[str]:
    """Yields the lines of a driver's log until it ends."""
    for sent in stream(server, route("sweeps", sweep, "events"), on_away):
        if sent.name == PROBLEM:
            raise JobError(json.loads(sent.data)["detail"])
        if not sent.name:
            yield _as_written(sent.data)


def _as_written(line: str) -> str:
    """Returns a line of a driver's log, of the JSON that the service sends for it."""
    return line if from_line(line) is not None else str(json.loads(line)["text"])


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


def _lines(sweep: str, workspace: Workspace | Server, *, follow: bool) -> Iterator[str]:
    if isinstance(workspace, Server):
        if follow:
            return _lines_through(workspace, sweep, lambda: None)
        answer = send(workspace, Request("GET", route("sweeps", sweep, "logs")))
        return map(_as_written, answer.text.splitlines())
    if workspace.cluster is not None:
        return jobs.logs(*_find(sweep, workspace), follow=follow)
    return _log_here(_find_here(sweep, open_record(workspace), workspace), follow=follow)


def _log_here(sweep: SweepHere, *, follow: bool) -> Iterator[str]:
    is_empty = True
    for line in log_lines(sweep.folder, follow=follow):
        is_empty = False
        yield line
    if is_empty:
        raise JobError(
            f"sweep {sweep.sweep_id}: its driver's log must be in {sweep.folder}, but there is "
            "none. For a cluster's sweep give --address; an older version wrote none."
        )


def _driven(sweep: str, runs: Runs, workspace: Workspace) -> tuple[SweepHere, Holder]:
    """Returns the sweep, and who drives it."""
    found = _find_here(sweep, runs, workspace)
    holder = holder_of(found.folder)
    if holder is None:
        status = _status_here(found)
        raise JobError(
            f"sweep {found.sweep_id}: its driver must run on this machine to be stopped here, but "
            f"runs nowhere: the sweep is {status.state}. "
            f"{status.message or 'For the sweep of a cluster give --address.'}"
        )
    return found, holder


def _find_here(reference: str, runs: Runs, workspace: Workspace) -> SweepHere:
    """Returns the sweep that is meant, recorded or just begun. Raises `TrackingError` when there is
    none."""
    recorded = runs.sweeps()
    begun = [(plan.sweep_id, plan.spec.name) for plan in _unrecorded(recorded, workspace)]
    known = [(sweep.sweep_id, sweep.name) for sweep in recorded]
    meant = sweeps_meant(reference, begun + known)
    if len(meant) == 1 and meant[0] in dict(begun):
        folder = sweeps_folder(workspace.home) / meant[0]
        return SweepHere(meant[0], TrialState.RUNNING, folder)
    found = runs.resolve_sweep(reference)
    folder = _folder_of(found.sweep_id, runs, workspace)
    return SweepHere(found.sweep_id, TrialState(found.state), folder)


def _unrecorded(recorded: Sequence[SweepRecord], workspace: Workspace) -> list[SweepPlan]:
    """Returns the plans that are driven here, but not long enough to be recorded."""
    known = {sweep.sweep_id for sweep in recorded}
    return [plan for plan in plans_here(workspace.home, driven=True) if plan.sweep_id not in known]


def _folder_of(sweep_id: str, runs: Runs, workspace: Workspace) -> Path:
    """Returns the sweep's folder. Most are in the home folder: for those no plan is read."""
    usual = sweeps_folder(workspace.home) / sweep_id
    return usual if usual.is_dir() else sweep_folder(read_plan(runs, sweep_id), workspace.home)


def _status_there(job: SweepJob, trials: dict[str, int] | None = None) -> SweepStatus:
    return SweepStatus(job.sweep_id, job.state, job.submission_id, trials or {}, job.message)


def _status_at_end(sweep: SweepHere, runs: Runs) -> SweepStatus:
    """Returns the status of a sweep whose driver has ended since it was found."""
    recorded = {one.sweep_id: TrialState(one.state) for one in runs.sweeps()}
    state = recorded.get(sweep.sweep_id, sweep.state)
    return _status_with_trials(replace(sweep, state=state), runs)


def _status_with_trials(sweep: SweepHere, runs: Runs) -> SweepStatus:
    counts = Counter(str(record.state) for record in runs.trials(sweep.sweep_id))
    return _status_here(sweep, dict(sorted(counts.items())))


def _status_here(sweep: SweepHere, trials: dict[str, int] | None = None) -> SweepStatus:
    holder = holder_of(sweep.folder)
    if holder is not None:
        return SweepStatus(sweep.sweep_id, TrialState.RUNNING, str(holder), trials or {})
    state = _state_without_driver(sweep)
    message = ""
    if state is TrialState.FAILED:
        errors = [line for line in log_lines(sweep.folder) if line.startswith(ERROR)]
        reason = errors[-1].removeprefix(ERROR) if errors else "Its driver is gone."
        message = f"{reason} Go on with: kd-sweep resume {sweep.sweep_id}"
    return SweepStatus(sweep.sweep_id, state, None, trials or {}, message)


def _state_without_driver(sweep: SweepHere) -> TrialState:
    """Returns the state of a sweep that nobody drives on this machine."""
    if sweep.state.is_terminal or not sweep.folder.is_dir():
        return sweep.state
    # The record does not know of the end: it waits in the spool, or the driver was killed.
    marker = end_marker(sweep.folder)
    return TrialState(marker.read_text()) if marker.exists() else TrialState.FAILED


def _is_about(line: str, trial: int) -> bool:
    event = from_line(line)
    about = isinstance(event, OF_A_TRIAL) and event.trial == trial
    return about or (event is not None and f"trial {trial} " in json.loads(line).get("text", ""))
