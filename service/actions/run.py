"""A sweep, run to its end, and what came of it: on this machine, or through a service."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from service.actions.run_result import OnEvent, RunEvent, RunResult, SweepBegins, ignore
from service.actions.run_there import run_there
from service.driver.driver import run_at
from service.driver.place import Place
from service.driver.study_changes import StudyChanges
from service.events import DriverEvent, Preparing, SlotsUp, TrialEnded, TrialStarted, Waiting
from service.plan.measured import remember_times
from service.plan.places import study_storage, sweep_folder
from service.plan.plan import SweepPlan
from service.record.runs import Runs
from service.record.store import ensure_store
from service.report.conclusion import Conclusion, conclude, conclude_and_keep
from service.states import TrialState
from service.workspace import Server, Workspace


class TrialTimes:
    """How long completed trials took, from a run's events. `now` gives seconds; it is asked at each
    event that matters."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._started: dict[int, float] = {}
        self.completed_s: list[float] = []

    def take(self, event: RunEvent) -> None:
        """Takes an event in."""
        match event:
            case TrialStarted(trial=trial):
                self._started[trial] = self._now()
            case TrialEnded(trial=trial, state=state) if trial in self._started:
                seconds = self._now() - self._started.pop(trial)
                if state is TrialState.COMPLETED:
                    self.completed_s.append(seconds)


class StartTime:
    """How long a run took until its first slots were up, from its events, without what preparing
    took: that is done once. `now` gives seconds; it is asked at once, and at each event until
    then."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last = now()
        self._is_preparing = False
        self._waited = 0.0
        self.seconds: float | None = None

    def take(self, event: RunEvent) -> None:
        """Takes an event in."""
        if self.seconds is not None:
            return
        now = self._now()
        self._waited += 0.0 if self._is_preparing else now - self._last
        self._last = now
        match event:
            case Preparing(share=share):
                self._is_preparing = 0 < share < 1
            case Waiting():
                self._is_preparing = False
            case SlotsUp(num_slots=num_slots) if num_slots:
                self.seconds = self._waited


def run_sweep(
    plan: SweepPlan,
    workspace: Workspace | Server,
    *,
    again: bool = False,
    on_event: OnEvent = ignore,
    stop: threading.Event | None = None,
) -> RunResult:
    """Runs the sweep to its end, on this machine or through a service; goes on with one that was
    stopped, and returns at once what a finished one found before, unless `again` runs it afresh
    under an id of its own.

    on_event: called with each event, also from other threads; stop: once set, trials end at their
    next step. Raises `JobError` when another driver has the sweep or no slot can start, `PlanError`
    when its inputs cannot be made, `TrackingError` when the record does not answer; through a
    service `JobError` for all that ends a driver there.
    """
    if isinstance(workspace, Server):
        stop = stop or threading.Event()
        return run_there(plan, workspace, again=again, on_event=on_event, stop=stop)
    uri = _tracking_uri(plan, workspace)
    ensure_store(uri, workspace.home)
    known = {one.sweep_id: one.state for one in Runs(uri, plan.spec.tracking.experiment).sweeps()}
    if known.get(plan.sweep_id) == TrialState.COMPLETED and not again:
        found = conclude(plan, uri=uri, home=workspace.home)
        result = _result(found, plan, workspace, state=TrialState.COMPLETED)
        return replace(result, done_before=True)
    if again:
        plan = plan.model_copy(update={"sweep_id": fresh_id(plan.sweep_id, set(known))})
    return drive_sweep(plan, workspace, on_event=on_event, stop=stop)


def drive_sweep(
    plan: SweepPlan,
    workspace: Workspace,
    *,
    changes: StudyChanges | None = None,
    on_event: OnEvent = ignore,
    stop: threading.Event | None = None,
) -> RunResult:
    """Runs what is left of `plan` on this machine, after applying `changes` to its study, and
    returns what came of all of it."""
    home, uri = workspace.home, _tracking_uri(plan, workspace)
    times, start = TrialTimes(time.monotonic), StartTime(time.monotonic)

    def take(event: DriverEvent) -> None:
        times.take(event)
        start.take(event)
        on_event(event)

    on_event(SweepBegins(plan))
    place = Place(home, uri, changes=changes or StudyChanges())
    summary = run_at(place, plan, on_event=take, stop=stop or threading.Event())
    if times.completed_s:
        remember_times(
            home,
            plan.spec,
            times.completed_s,
            start_s=start.seconds,
            sweep_id=plan.sweep_id,
        )
    found = conclude_and_keep(plan, summary.run_id, uri=uri, home=home)
    return _result(found, plan, workspace, state=summary.state)


def fresh_id(sweep_id: str, known: set[str]) -> str:
    """Returns the id with the first suffix -2, -3, … that is not in `known`."""
    number = 2
    while f"{sweep_id}-{number}" in known:
        number += 1
    return f"{sweep_id}-{number}"


def _tracking_uri(plan: SweepPlan, workspace: Workspace) -> str:
    return plan.spec.tracking.uri or workspace.tracking_uri


def _result(found: Conclusion, plan: SweepPlan, workspace: Workspace, *, state: str) -> RunResult:
    return RunResult(
        plan.sweep_id,
        state,
        _tracking_uri(plan, workspace),
        best=found.best,
        report=found.report,
        study=study_storage(plan, sweep_folder(plan, workspace.home)),
        experiment_id=found.experiment_id,
    )
