"""A sweep run through a service: handed over, followed to its end, and what came of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service.actions.cluster import submit_sweep
from service.actions.follow import stop_sweep, watch_sweep
from service.actions.record import best_trials
from service.actions.run_result import OnEvent, RunEvent, RunResult
from service.actions.status import SweepStatus
from service.client.asking import route, tell
from service.errors import SweepError
from service.events import Notice
from service.plan.plan import SweepPlan
from service.results.best import Best
from service.states import TrialState
from service.workspace import Server

POLL_S = 0.2


def run_there(
    plan: SweepPlan, server: Server, *, again: bool, on_event: OnEvent, stop: threading.Event
) -> RunResult:
    """Has the service run the plan as a sweep of its user's, and returns what came of it; see
    `service.actions.run.run_sweep`. The sweep goes on there whatever becomes of this process."""
    job = submit_sweep(plan, server, again=again)
    if not job.is_new and job.state is TrialState.COMPLETED:
        return _result(SweepStatus(job.sweep_id, job.state, None), plan, server, done_before=True)
    if not job.is_new and job.is_over:
        tell(server, route("sweeps", job.sweep_id, "resume"), SweepStatus)
    with _stopped_once_set(stop, job.sweep_id, server, on_event) as take:
        status = watch_sweep(job.sweep_id, server, on_event=take)
    return _result(status, plan, server)


@contextmanager
def _stopped_once_set(
    stop: threading.Event, sweep_id: str, server: Server, on_event: OnEvent
) -> Iterator[OnEvent]:
    """Has the service stop the sweep once `stop` is set, from the first event on. Yields what takes
    the events."""
    is_begun, is_left = threading.Event(), threading.Event()

    def take(event: RunEvent) -> None:
        on_event(event)
        is_begun.set()

    def wait() -> None:
        while not (is_begun.wait(POLL_S) and stop.wait(POLL_S)):
            if is_left.is_set():
                return
        try:
            stop_sweep(sweep_id, server)
        except SweepError as error:
            if not is_left.is_set():  # else it has ended by itself
                on_event(Notice(f"the sweep goes on, since it could not be stopped: {error}"))

    # A daemon: the user may leave while the service takes its time.
    threading.Thread(target=wait, daemon=True).start()
    try:
        yield take
    finally:
        is_left.set()


def _result(
    status: SweepStatus, plan: SweepPlan, server: Server, *, done_before: bool = False
) -> RunResult:
    first = plan.spec.objective[0]
    is_recorded = done_before or bool(status.trials)
    return RunResult(
        status.sweep_id,
        status.state,
        server.address,
        best=best_trials(status.sweep_id, server)
        if is_recorded
        else Best(first.metric, first.direction, rows=(), winners={}),
        report=f"{server.address}/sweeps/{status.sweep_id}/report" if is_recorded else None,
        done_before=done_before,
    )
