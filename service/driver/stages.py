"""The stages of a driver inside its Ray session: bring the study up to date, make what all trials
share, run what is left of them, sum up.

Loaded once Ray's environment is set. What runs trials takes seconds more to load: `tuning`, which
is imported while the shared inputs are made.
"""

import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from service.driver.ledger import Ledger, num_left
from service.driver.open_study import apply_changes, open_study, so_far
from service.driver.place import Place, Sweep
from service.driver.preparing import end_tasks, finish_preparing, start_preparing
from service.driver.probe import check_storage_is_shared, check_store_answers
from service.driver.settle import settle_runs
from service.driver.shared_inputs import SharedInputs, own_scores
from service.driver.study_line import compared
from service.driver.teacher_cache import cache_teacher
from service.driver.tickets import TrialSetting
from service.driver.watch import Watch
from service.errors import JobError
from service.events import DriverEvent, Notice, SweepSummary, Waiting
from service.own_code.sources import unpack
from service.plan.evaluations import num_evaluations
from service.plan.places import checkpoints_url, end_marker, trials_folder
from service.plan.plan import SweepPlan
from service.record import tags
from service.record.run_entries import DataSizes
from service.record.runs import Runs
from service.record.store import ensure_store
from service.record.tracking import tracker_at
from service.search.recover import reconcile
from service.search.study import StudyStore
from service.search.study_trials import Asked, best_trial
from service.slots.board_actor import draining_nodes, start_board
from service.slots.session import BOARD, namespace_of
from service.states import TrialState
from trainers.trial.reporting import Leave
from trainers.trial.sources import Prepared


def drive(
    place: Place,
    plan: SweepPlan,
    *,
    on_event: Callable[[DriverEvent], None],
    stop: threading.Event,
) -> SweepSummary:
    """Does what `service.driver.driver.run_at` says, connected to Ray."""
    ensure_store(place.tracking_uri, place.home)
    experiment = plan.spec.tracking.experiment
    tracker = tracker_at(place.tracking_uri, experiment, place.home)
    sweep = Sweep(place, plan, tracker, on_event, stop)
    marker = end_marker(sweep.folder)
    try:
        marker.unlink(missing_ok=True)
        summary = _run(sweep)
    finally:
        tracker.close()
    # Written before Ray is left: where a slot did not end in time, leaving it may end this process,
    # and whoever watches over the driver would start a finished sweep again.
    marker.write_text(summary.state)
    return summary


def _run(sweep: Sweep) -> SweepSummary:
    """Returns the summary; whatever happens, nothing of the sweep stays running in MLflow."""
    plan = sweep.plan
    store = open_study(plan, sweep.folder)
    for text in apply_changes(sweep.place.changes, store, plan, home=sweep.place.home):
        sweep.on_event(Notice(text))
    run_id = sweep.tracker.start_sweep(plan)
    state, came_of_it = TrialState.FAILED, dict[str, float]()
    try:
        # The study first: what its trials are decides what their runs have to be.
        resumed = reconcile(store)
        runs = Runs(sweep.place.tracking_uri, plan.spec.tracking.experiment)
        settle_runs(store, runs.trials(plan.sweep_id), sweep.tracker)
        before = so_far(store, plan)
        if before is not None:
            sweep.on_event(before)
        if resumed or num_left(plan, store) > 0:
            _prepare_and_tune(sweep, store, run_id, resumed)
        state = TrialState.CANCELLED if sweep.stop.is_set() else TrialState.COMPLETED
        summary = _sum_up(sweep, store, run_id, state)
        came_of_it = _in_numbers(summary)
        return summary
    finally:
        sweep.tracker.finish_sweep(run_id, state, came_of_it)


def _prepare_and_tune(sweep: Sweep, store: StudyStore, run_id: str, resumed: list[Asked]) -> None:
    board = start_board()
    with Watch(sweep, board, get=ray.get, draining_nodes=draining_nodes) as watch:
        shared = _prepare(sweep, board)
        if shared is not None:
            from service.driver.tuning import tune_trials

            sweep.tracker.log_metrics(run_id, 0, own_scores(shared.prepared))
            sweep.tracker.describe_data(
                run_id, shared.prepared.fingerprints, _data_sizes(shared.prepared)
            )
            examples = shared.prepared.num_train_examples
            store.expect_evaluations(num_evaluations(sweep.plan.spec, examples))
            ledger = Ledger(
                plan=sweep.plan,
                store=store,
                recorder=sweep.tracker,
                setting=_setting(sweep, run_id, shared),
                host=_SweepAtBoard(sweep, board),
                resumed=resumed,
            )
            tune_trials(sweep, board, ledger, watch)
    if watch.problem is not None:
        raise JobError(watch.problem)


def _prepare(sweep: Sweep, board: Any) -> SharedInputs | None:
    """Returns what all trials share; None when the sweep was stopped before it was there."""
    plan, place = sweep.plan, sweep.place
    # Seconds of imports, done while the task works and this process waits.
    imports = threading.Thread(target=importlib.import_module, args=("service.driver.tuning",))
    imports.start()
    sweep.on_event(Waiting("looking at models and data"))
    task = start_preparing(plan, place.home, board, place.tools.prepare)
    try:
        _check_storage(sweep)
        shared = finish_preparing(task, board, on_event=sweep.on_event, stop=sweep.stop)
    finally:
        end_tasks([task])
        imports.join()
    if shared is None:
        return None
    return cache_teacher(plan, place.home, shared, on_event=sweep.on_event, stop=sweep.stop)


def _check_storage(sweep: Sweep) -> None:
    url = checkpoints_url(sweep.plan)
    if url is not None:
        check_store_answers(url)
    if sweep.place.ray_address is not None:
        check_storage_is_shared(sweep.folder)
    if url is not None and sweep.place.ray_address is not None:
        check_storage_is_shared(url)


@dataclass(frozen=True)
class _SweepAtBoard:
    """The ledger's host: a sweep whose trials run at a board. No call waits for the board."""

    sweep: Sweep
    board: Any

    def show(self, event: DriverEvent) -> None:
        self.sweep.on_event(event)

    def end_lease(self, lease: str, reason: Leave) -> None:
        self.board.release.remote(lease, reason)

    def note_open_trials(self, num_open: int) -> None:
        self.board.drain.remote(num_open)

    def is_out_of_time(self) -> bool:
        return self.sweep.is_out_of_time


def _setting(sweep: Sweep, run_id: str, shared: SharedInputs) -> TrialSetting:
    plan = sweep.plan
    return TrialSetting(
        template=shared.template(plan, unpack(plan.own_modules, sweep.folder)),
        shared=shared,
        folder=trials_folder(sweep.folder),
        board=BOARD,
        namespace=namespace_of(plan.sweep_id),
        sweep_run_id=run_id,
        checkpoints=checkpoints_url(plan),
    )


def _sum_up(sweep: Sweep, store: StudyStore, run_id: str, state: TrialState) -> SweepSummary:
    records = compared(sweep.plan, store.records())
    best = best_trial(records, sweep.plan.spec.objective[0].direction)
    return SweepSummary(
        sweep_id=sweep.plan.sweep_id,
        run_id=run_id,
        state=state.value,
        counts={str(name): count for name, count in store.counts().items() if count},
        best=best.number if best else None,
        objective=best.objective if best else None,
        duration_s=sweep.duration_s,
    )


def _in_numbers(summary: SweepSummary) -> dict[str, float]:
    """The sweep's own metrics: the objective of its best trial, and how many trials ended how."""
    found = {f"trials/{state}": float(count) for state, count in summary.counts.items()}
    best = {} if summary.best is None else {"trials/best": float(summary.best)}
    objective = {} if summary.objective is None else {tags.OBJECTIVE: summary.objective}
    return found | best | objective


def _data_sizes(prepared: Prepared) -> DataSizes:
    return DataSizes(
        prepared.num_train_examples, prepared.num_train_tokens, prepared.num_validation_examples
    )
