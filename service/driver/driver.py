"""The driver: prepares, brings the slots up, lets Ray Tune run the study's trials, and ends it all.

The order is the same on a laptop and in a Ray job, for a new sweep and for one whose driver died.
"""

import importlib
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from service.driver.ledger import Ledger, TrialSetting, num_left
from service.driver.open_study import open_study
from service.driver.probe import check_storage_is_shared, check_store_answers
from service.driver.reconcile import settle_runs
from service.driver.shared_inputs import (
    Prepare,
    SharedInputs,
    end_tasks,
    finish_preparing,
    prepare_inputs,
    start_preparing,
)
from service.driver.study_changes import StudyChanges
from service.driver.teacher_cache import cache_teacher
from service.errors import JobError
from service.events import DriverEvent, Notice, Preparing, SlotsUp, SweepEnded, SweepSummary
from service.home import spool_folder
from service.own_code.sources import unpack
from service.plan.places import END_MARKER, checkpoints_url, sweep_folder
from service.plan.plan import SweepPlan
from service.record.records import RunRecord
from service.search.study import StudyStore
from service.search.study_trials import Asked, best_trial
from service.slots.session import (
    BOARD,
    draining_nodes,
    namespace_of,
    ray_session,
    start_board,
    sweep_lock,
)
from service.states import TrialState
from trainers.worker import SlotConfig, Trains, standing_trainer

log = logging.getLogger(__name__)
STOP_GRACE_S = 4.0
END_GRACE_S = 75.0
CHECKPOINT_EVERY_S = 120.0
# Asks for no CPU: slots take them all, and Tune refuses a trial that asks for nothing.
TRIAL_RESOURCES = {"cpu": 0, "node:__internal_head__": 0.001}
ACTOR_DEATHS = 3


@dataclass(frozen=True)
class Tools:
    """What does the work inside Ray's processes; pickled by name. Tests put small ones here.
    `trainer` is also called with `checkpoints`, a URL, where these lie at one."""

    prepare: Prepare = prepare_inputs
    trainer: Callable[..., Trains] = field(
        default=partial(standing_trainer, checkpoint_every_s=CHECKPOINT_EVERY_S)
    )


@dataclass(frozen=True)
class Place:
    """Where a sweep runs: home folder, MLflow's address, Ray's (None starts one here), and tools;
    `changes` is what to do first with the study of a sweep that was started before."""

    home: Path
    tracking_uri: str
    ray_address: str | None = None
    tools: Tools = Tools()
    changes: StudyChanges = StudyChanges()


def run_sweep(
    plan: SweepPlan,
    *,
    home: Path,
    tracking_uri: str,
    ray_address: str | None,
    on_event: Callable[[DriverEvent], None],
    stop: threading.Event,
) -> SweepSummary:
    """Runs the sweep to its end and returns what came of it; one that was started before goes on.

    ray_address: None starts a Ray on this machine. `stop`, once set, ends the sweep within about
    15 s: finished trials keep their results, running ones are cancelled. Raises `JobError` when
    another driver has the sweep or no slot can start, `PlanError` when its inputs cannot be made,
    and `TrackingError` when MLflow is away at the start.
    """
    return run_at(Place(home, tracking_uri, ray_address), plan, on_event=on_event, stop=stop)


def run_at(
    place: Place,
    plan: SweepPlan,
    *,
    on_event: Callable[[DriverEvent], None],
    stop: threading.Event,
) -> SweepSummary:
    """Does what `run_sweep` says, with the tools of `place`."""
    from service.record.store import ensure_store
    from service.record.tracking import Tracker

    folder = sweep_folder(plan, place.home)
    with sweep_lock(folder), ray_session(plan, folder, place.ray_address):
        on_event(Preparing("Ray is up", 0.0))
        # MLflow takes seconds to import, in which Ray's first processes start.
        ensure_store(place.tracking_uri, place.home)
        spool = spool_folder(place.home, place.tracking_uri)
        tracker = Tracker(place.tracking_uri, plan.spec.tracking.experiment, spool=spool)
        try:
            (folder / END_MARKER).unlink(missing_ok=True)
            summary = _Sweep(place, plan, tracker, on_event=on_event, stop=stop).run()
        finally:
            tracker.close()
        # Leaving Ray may end this process where a slot did not end in time.
        (folder / END_MARKER).write_text(summary.state)
    on_event(SweepEnded(summary))
    return summary


class _Sweep:
    """One driver's work on a sweep, inside a Ray session."""

    def __init__(
        self,
        place: Place,
        plan: SweepPlan,
        tracker: Any,
        *,
        on_event: Callable[[DriverEvent], None],
        stop: threading.Event,
    ) -> None:
        self._place, self._plan, self._tracker = place, plan, tracker
        self._on_event, self._stop = on_event, stop
        self._folder = sweep_folder(plan, place.home)
        self._over = threading.Event()
        self._began = time.monotonic()
        self._problem: str | None = None
        self._board: Any = None

    def run(self) -> SweepSummary:
        """Returns the summary; whatever happens, nothing of the sweep stays running."""
        store = open_study(self._plan, self._folder)
        for text in self._place.changes.apply(store, self._plan, self._place.home):
            self._on_event(Notice(text))
        run_id = self._tracker.start_sweep(self._plan)
        state = TrialState.FAILED
        try:
            resumed = store.reconcile()
            settle_runs(store, self._recorded(), self._tracker)
            if resumed or num_left(self._plan, store) > 0:
                self._work(store, run_id, resumed)
            if self._problem is not None:
                raise JobError(self._problem)
            state = TrialState.CANCELLED if self._stop.is_set() else TrialState.COMPLETED
            return self._summary(store, run_id, state)
        finally:
            self._tracker.finish_sweep(run_id, state)

    def _work(self, store: StudyStore, run_id: str, resumed: list[Asked]) -> None:
        """Makes what all trials share, then runs what is left of them."""
        self._board = start_board()
        # Seconds of imports, done while the task works and this process waits.
        imports = threading.Thread(target=_import_what_runs_trials)
        imports.start()
        tools, home = self._place.tools, self._place.home
        task = start_preparing(self._plan, home, self._board, tools.prepare)
        try:
            self._check_storage()
            shared = finish_preparing(task, self._board, on_event=self._on_event, stop=self._stop)
        finally:
            end_tasks([task])
            imports.join()
        if shared is not None:
            shared = cache_teacher(
                self._plan, home, shared, on_event=self._on_event, stop=self._stop
            )
        if shared is not None:
            self._run_trials(self._ledger(store, run_id, shared, resumed=resumed))

    def _check_storage(self) -> None:
        url = checkpoints_url(self._plan)
        if url is not None:
            check_store_answers(url)
        if self._place.ray_address is not None:
            check_storage_is_shared(self._folder)
        if url is not None and self._place.ray_address is not None:
            check_storage_is_shared(url)

    def _recorded(self) -> list[RunRecord]:
        from service.record.runs import Runs

        runs = Runs(self._place.tracking_uri, self._plan.spec.tracking.experiment)
        return runs.trials(self._plan.sweep_id)

    def _ledger(
        self, store: StudyStore, run_id: str, shared: SharedInputs, *, resumed: list[Asked]
    ) -> Ledger:
        setting = TrialSetting(
            template=shared.template(self._plan, unpack(self._plan.own_modules, self._folder)),
            shared=shared,
            folder=self._folder / "trials",
            board=BOARD,
            namespace=namespace_of(self._plan.sweep_id),
            sweep_run_id=run_id,
            checkpoints=checkpoints_url(self._plan),
        )
        return Ledger(
            plan=self._plan,
            store=store,
            recorder=self._tracker,
            setting=setting,
            on_event=self._on_event,
            release=lambda lease, reason: self._board.release.remote(lease, reason),
            resumed=resumed,
            late=self._late,
            on_spent=lambda num_open: self._board.drain.remote(num_open),
        )

    def _run_trials(self, ledger: Ledger) -> None:
        """Runs what is left of the budget; when it returns, all trials have their final states."""
        pool = self._pool()
        watch = threading.Thread(target=self._watch, args=(ledger,), daemon=True)
        pool.start()
        watch.start()
        try:
            self._tune(ledger)
        finally:
            self._over.set()
            watch.join()
            ledger.stop()
            ended = pool.close(grace_s=STOP_GRACE_S if self._stop.is_set() else END_GRACE_S)
            ledger.close()
            if not ended:
                log.warning("some slots did not end; ending Ray ends them")

    def _pool(self) -> Any:
        from service.record.sink import SinkFactory
        from service.slots.slots import Slot, SlotPool, SlotShape

        plan, uri = self._plan, self._place.tracking_uri
        spool = spool_folder(self._place.home, uri)
        sinks = SinkFactory(uri, str(spool), plan.spec.tracking.experiment)
        shape = SlotShape(plan.workers_per_trial, plan.cpus_per_worker, plan.gpus_per_worker)
        configs = [
            SlotConfig(
                slot=f"slot-{number}",
                board=self._board,
                folder=str(self._folder.resolve()),
                trainer=self._trainer(),
                sinks=sinks,
                max_jobs=1 if plan.isolation == "strict" else None,
            )
            for number in range(plan.slots)
        ]
        storage = str(self._folder / "slots")
        return SlotPool([Slot(config, shape, storage) for config in configs], self._board)

    def _trainer(self) -> Callable[[], Trains]:
        trainer, url = self._place.tools.trainer, checkpoints_url(self._plan)
        return trainer if url is None else partial(trainer, checkpoints=url)

    def _tune(self, ledger: Ledger) -> None:
        from ray import tune

        from service.driver.searcher import LedgerScheduler, LedgerSearcher
        from service.slots.trial import train_in_slot

        name = f"tune-{uuid.uuid4().hex[:8]}"
        tuner = tune.Tuner(
            tune.with_resources(train_in_slot, TRIAL_RESOURCES),
            tune_config=tune.TuneConfig(
                search_alg=LedgerSearcher(ledger),
                scheduler=LedgerScheduler(ledger),
                num_samples=-1,
                max_concurrent_trials=self._plan.slots,
                reuse_actors=True,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(self._folder),
                failure_config=tune.FailureConfig(max_failures=ACTOR_DEATHS),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        finally:
            # Tune's own state is never read: the study is the truth.
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def _watch(self, ledger: Ledger) -> None:
        """Beside Tune: tells how many slots are up, obeys `stop`, and gives up when no slot can
        start."""
        import ray

        up = 0
        while not self._over.wait(0.2):
            status = ray.get(self._board.status.remote())
            if len(status["alive"]) != up:
                up = len(status["alive"])
                self._on_event(SlotsUp(up, self._plan.slots))
            if status["stopped"]:
                self._stop.set()
            self._leave_nodes_that_go()
            if len(status["given_up"]) == self._plan.slots:
                reason = next(iter(status["given_up"].values()))
                self._problem = f"no slot can start its workers: {reason}"
            if self._stop.is_set() or self._problem is not None:
                ledger.stop()
                ray.get(self._board.stop.remote())
                return

    def _late(self) -> bool:
        budget = self._plan.time_budget_s
        return budget is not None and time.monotonic() - self._began > budget

    def _leave_nodes_that_go(self) -> None:
        """Tells the board of nodes whose end a cloud has announced; on this machine there are
        none."""
        if self._place.ray_address is not None:
            nodes = draining_nodes()
            if nodes:
                self._board.leave_nodes.remote(nodes)

    def _summary(self, store: StudyStore, run_id: str, state: TrialState) -> SweepSummary:
        best = best_trial(store.records(), self._plan.spec.objective[0].direction)
        return SweepSummary(
            sweep_id=self._plan.sweep_id,
            run_id=run_id,
            state=state.value,
            counts={str(name): count for name, count in store.counts().items() if count},
            best=best.number if best else None,
            objective=best.objective if best else None,
            duration_s=time.monotonic() - self._began,
        )


def _import_what_runs_trials() -> None:
    for name in (
        "ray.tune",
        "service.driver.searcher",
        "service.slots.slots",
        "service.slots.trial",
    ):
        importlib.import_module(name)


def _name(trial: Any) -> str:
    return str(trial.trial_id)
