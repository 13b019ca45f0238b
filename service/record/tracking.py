"""Writes the record: the driver makes runs and sets states, a trial's rank 0 sends metrics.

While the tracking server is away everything waits in the spool, run creation included, and is
replayed when it is back: by the same process, or by the next one that tracks anything in the same
home.
"""

import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from service.errors import TrackingError
from service.home import DEFAULT_EXPERIMENT, SQLITE, spool_folder, sqlite_path
from service.plan.plan import SweepPlan
from service.provenance import provenance
from service.record import tags
from service.record.delivery import Delivery, or_away
from service.record.entries import (
    Away,
    Deleted,
    Entry,
    FileEntry,
    MetricsEntry,
    Rejected,
    RunEntry,
    StateEntry,
    TagsEntry,
    TextEntry,
)
from service.record.rests import note_rests
from service.record.run_entries import UNKNOWN, DataSizes, data_inputs, sweep_entry, trial_entry
from service.record.sink import now_ms
from service.record.spool import Outbox, note_refused, replay_folder
from service.record.views import view_tag
from service.states import MLFLOW_STATUS, TrialState
from trainers.files.urls import without_secrets
from trainers.trial.trial_file import TrialFile

logger = logging.getLogger(__name__)


ANALYZE_EVERY = 500  # runs


def tracker_at(uri: str, experiment: str, home: Path) -> "Tracker":
    """Returns a tracker whose spool is the home folder's own for that record."""
    return Tracker(uri, experiment, spool=spool_folder(home, uri, experiment))


class Tracker:
    """The driver's side of the record of one sweep. Nothing but `start_sweep` raises when the
    server is away: what comes then waits in `spool` (`spool_folder`) and is delivered when it is
    back.
    """

    def __init__(self, uri: str, experiment: str = DEFAULT_EXPERIMENT, *, spool: Path) -> None:
        self._uri, self._folder = uri, spool
        self._delivery = Delivery(uri, experiment)
        self._outbox = Outbox(spool, self._deliver)
        # The outbox's thread and the driver's both deliver, and two must not make the same run.
        self._lock = threading.RLock()
        self._sweeps: dict[str, SweepPlan] = {}
        self._sizes = UNKNOWN
        self._num_runs = 0
        self._outbox.start()

    def start_sweep(self, plan: SweepPlan) -> str:
        """Makes the sweep's run, or takes up the one it has; returns its run id. Raises
        `TrackingError` when the server is away: a sweep does not begin without a record.
        """
        entry = sweep_entry(plan, at_ms=now_ms())
        try:
            self.replay()
            with or_away():
                place = self._delivery.client, self._delivery.experiment_id()
                note_rests(*place, plan.sweep_id, at_ms=entry.at_ms)
            self._deliver([entry])
            run_id = self._delivery.resolve(entry.run)
            self._num_runs = len(self._delivery.load_trials(plan.sweep_id))
        except Deleted as error:
            raise TrackingError(f"tracking: '{self._uri}': {error}.") from error
        except Away as error:
            raise TrackingError(
                f"tracking: the server at '{self._uri}' must answer when a sweep starts, "
                f"but got: {error}. Start it, or unset MLFLOW_TRACKING_URI to use a file."
            ) from error
        self._sweeps[run_id] = plan
        _keep_view(self._delivery, plan)
        return run_id

    def describe_data(
        self, sweep_run_id: str, fingerprints: Mapping[str, str], sizes: DataSizes
    ) -> None:
        """Keeps what the sweep's prepared data is with its run, and with those of its trials from
        now on."""
        self._sizes = sizes
        plan = self._sweeps[sweep_run_id]
        entry = sweep_entry(plan, at_ms=now_ms())
        inputs = tuple(data_inputs(plan, fingerprints, sizes))
        # The run as it is, with its inputs: the rest of it is recorded already.
        self._put(entry.model_copy(update={"inputs": inputs, "texts": {}, "params": {}}))

    def start_trial(
        self,
        sweep_run_id: str,
        trial: TrialFile,
        *,
        hyperparameters: Mapping[str, Any],
        label: str | None,
    ) -> str:
        """Makes the trial's run below the sweep's, or takes up the one of an earlier attempt.
        Returns its run id, or a name that stands for it while the server is away. hyperparameters:
        the sampled values.
        """
        plan = self._sweeps[sweep_run_id]
        around = provenance() | {"code_version": plan.code_version}
        entry = trial_entry(
            plan,
            trial.model_copy(update={"provenance": around}),
            hyperparameters,
            label=label,
            at_ms=now_ms(),
            sizes=self._sizes,
        )
        parent = {tags.PARENT_RUN: sweep_run_id}
        entry = entry.model_copy(update={"tags": entry.tags | parent})
        run_id = self.start_run(entry)
        self._num_runs += 1
        # Early twice, as a sweep grows fast at first: statistics of an empty store mislead SQLite.
        if self._num_runs in (20, 100) or self._num_runs % ANALYZE_EVERY == 0:
            self.analyze()
        return run_id

    def start_run(self, entry: RunEntry) -> str:
        """Makes the run of `entry`, or takes it up; returns its id, or a name that stands for it
        while the server is away.
        """
        self._put(entry)
        return self._delivery.known(entry.run) or entry.run

    def finish_trial(
        self,
        run_id: str,
        state: TrialState,
        *,
        objective: float | None = None,
        error: str | None = None,
        warning: str | None = None,
    ) -> None:
        """Sets the trial's state and its objective (finite or NaN). error: why it failed; warning:
        what to know before relying on it."""
        found = {tags.STATE: str(state)}
        found |= {tags.ERROR: without_secrets(error)} if error else {}
        found |= {tags.WARNING: warning} if warning else {}
        metrics = {} if objective is None else {tags.OBJECTIVE: objective}
        self._put(
            StateEntry(
                run=run_id,
                at_ms=now_ms(),
                status=MLFLOW_STATUS[state],
                tags=found,
                metrics=metrics,
            )
        )

    def finish_sweep(
        self, run_id: str, state: TrialState, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Sets the sweep's state, and what came of it in numbers; trials that are still running by
        then are cancelled, so that no run stays RUNNING."""
        self._put(
            StateEntry(
                run=run_id,
                at_ms=now_ms(),
                status=MLFLOW_STATUS[state],
                tags={tags.STATE: str(state)},
                metrics=dict(metrics or {}),
            )
        )
        self._cancel_running(run_id)
        self.analyze()

    def log_metrics(self, run_id: str, step: int, metrics: Mapping[str, float]) -> None:
        """Keeps metrics of one step."""
        self._put(MetricsEntry(run=run_id, at_ms=now_ms(), step=step, metrics=dict(metrics)))

    def log_text(self, run_id: str, text: str, name: str) -> None:
        """Keeps `text` as the run's artifact `name`."""
        self._put(TextEntry(run=run_id, at_ms=now_ms(), text=text, name=name))

    def tag(self, run_id: str, found: Mapping[str, str]) -> None:
        """Sets tags of a run, over those that it has."""
        self._put(TagsEntry(run=run_id, at_ms=now_ms(), tags=dict(found)))

    def log_artifact(self, run_id: str, path: Path, artifact_path: str | None = None) -> None:
        """Copies a file or folder to the run's artifacts, below the folder `artifact_path`."""
        self._put(FileEntry(run=run_id, at_ms=now_ms(), path=str(path), folder=artifact_path))

    def replay(self) -> int:
        """Delivers what processes that are gone left in the spool; returns how many files still
        wait. Raises `Away` when the server does not answer.
        """
        return replay_folder(self._folder, self._deliver)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Delivers what is left; returns whether all is recorded (the rest stays in the spool)."""
        delivered = self._outbox.close(timeout_s)
        # The outbox has given its file up, so this finds what it could not deliver in time, and
        # what slots that were killed have left.
        try:
            return self.replay() == 0 and delivered
        except Away as error:
            logger.warning("tracking is away, its record waits in %s: %s", self._folder, error)
            return False

    def analyze(self) -> None:
        """Gives SQLite the statistics without which MLflow searches 10,000 runs 94 times slower."""
        if self._uri.startswith(SQLITE):
            _analyze(sqlite_path(self._uri))

    def _put(self, entry: Entry) -> None:
        """Delivers at once when nothing waits before it; else it takes its place behind."""
        # At once, so that a new run has its id and an ended one its state before the driver goes
        # on. Never past what waits: a state that overtook its run's creation would find no run.
        if not self._outbox.is_empty:
            self._outbox.put(entry)
            return
        try:
            rejected = self._deliver([entry])
        # Perhaps it was recorded and only the answer was lost: it is put in again all the same.
        except Away as error:
            logger.warning("tracking is away, its record waits in %s: %s", self._folder, error)
            self._outbox.put(entry)
            return
        note_refused(self._folder, rejected)

    def _deliver(self, entries: Sequence[Entry]) -> list[Rejected]:
        with self._lock:
            return self._delivery(entries)

    def _cancel_running(self, sweep_run_id: str) -> None:
        try:
            left = self._delivery.unfinished(sweep_run_id)
        except Away as error:
            logger.warning("runs of dead trials cannot be looked for: %s", error)
            return
        for run_id in left:
            self.finish_trial(run_id, TrialState.CANCELLED)


def _keep_view(delivery: Delivery, plan: SweepPlan) -> None:
    view = view_tag(plan)
    try:
        if view is not None:
            delivery.tag_experiment(*view)
    except Away as error:  # no sweep fails for how it is looked at
        logger.info("the view of %s is not kept: %s", plan.sweep_id, error)


def _analyze(store: Path) -> None:
    with closing(sqlite3.connect(store, timeout=5)) as database:
        try:
            database.execute("ANALYZE")
        except sqlite3.Error as error:
            logger.info("the store is busy, its statistics are renewed later: %s", error)
