"""Writes the record: the driver makes runs and sets states, a trial's rank 0 sends metrics.

While the tracking server is away everything waits in the spool, run creation included, and is
replayed when it is back: by the same process, or by the next one that tracks anything in the same
home.
"""

import fcntl
import hashlib
import logging
import os
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import TrackingError
from service.plan.plan import SweepPlan
from service.provenance import provenance
from service.record import tags
from service.record.delivery import (
    DEFAULT_EXPERIMENT,
    SQLITE,
    Delivery,
    artifact_root,
    connect,
    probe,
    set_client_environment,
)
from service.record.run_entries import as_text, sweep_entry, trial_entry
from service.record.spool import (
    Away,
    Entry,
    FileEntry,
    MetricsEntry,
    Outbox,
    Rejected,
    RunEntry,
    StateEntry,
    TextEntry,
    replay_folder,
)
from service.states import MLFLOW_STATUS, TrialState
from trainers.trial.trial_file import TrialFile

logger = logging.getLogger(__name__)


PROBE_TIMEOUT_S = 5.0
ANALYZE_EVERY = 500


def default_uri(home: Path) -> str:
    """Returns `MLFLOW_TRACKING_URI`, or the SQLite file in the home folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{home.resolve()}/mlflow.db"


def spool_folder(home: Path, uri: str) -> Path:
    """Returns the folder in which entries for this server wait while it is away."""
    return home / "spool" / hashlib.sha256(uri.encode()).hexdigest()[:8]


def ensure_store(uri: str, home: Path) -> None:
    """Makes the database of a local store once, whoever comes first, or checks that a server
    answers. Raises `TrackingError` with what to do.
    """
    if uri.startswith(("http://", "https://")):
        _check_server(uri)
    elif not uri.startswith((SQLITE, "postgresql")):
        raise TrackingError(
            "tracking: the store must be sqlite:///FILE, postgresql://…, http://… or https://…, "
            f"but got '{uri}'. Set tracking.uri or MLFLOW_TRACKING_URI to one of them."
        )
    home.mkdir(parents=True, exist_ok=True)
    # Several processes that make one SQLite store at the same moment break it: only one at a time.
    with _file_lock(_folder_of(uri, home) / "mlflow.lock"):
        try:
            _open_store(uri)
        except Exception as error:
            raise TrackingError(_unusable(uri, error)) from error


def _folder_of(uri: str, home: Path) -> Path:
    """Returns the folder of a SQLite store, which homes may share, else the home."""
    folder = Path(uri.removeprefix(SQLITE)).parent
    return folder if uri.startswith(SQLITE) and folder.is_dir() else home


def _open_store(uri: str) -> None:
    if uri.startswith(SQLITE):
        _make_whole(Path(uri.removeprefix(SQLITE)))
    probe(uri)
    client = connect(uri)
    if uri.startswith(SQLITE):
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        SqlAlchemyStore(uri, artifact_root(uri))
    client.search_experiments(max_results=1)


def _make_whole(path: Path) -> None:
    """Makes the SQLite store of a file that is not there, under another name until it is whole:
    MLflow cannot go on with one whose making was broken off."""
    if path.exists() or not path.parent.is_dir():
        return
    set_client_environment()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    draft = path.with_name(f"{path.name}.new")
    for leftover in path.parent.glob(f"{draft.name}*"):
        leftover.unlink()
    store = SqlAlchemyStore(f"{SQLITE}{draft}", artifact_root(f"{SQLITE}{path}"))
    store.engine.dispose()
    draft.rename(path)


def _unusable(uri: str, error: Exception) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    place = f"tracking: the store at '{uri}' must be readable and up to date, but got: {text}."
    if "out-of-date database schema" in text:
        return f"{place} Make a copy of it, then run: mlflow db upgrade '{uri}'."
    if uri.startswith(SQLITE):
        return (
            f"{place} Move the file away (a new one is made), free the disk, or name another one."
        )
    return f"{place} Check the address and the credentials (MLFLOW_TRACKING_TOKEN or _USERNAME)."


def _check_server(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PROBE_TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        if error.code == 403:
            host = uri.split("//")[1].split("/")[0]
            raise TrackingError(
                f"tracking: the server at '{uri}' must accept this name for itself, but got 403. "
                f'Start it with: mlflow server --allowed-hosts "{host}" …'
            ) from error
        if error.code in (401, 404):
            return
        raise TrackingError(f"tracking: '{uri}' must be healthy, but got {error.code}.") from error
    except (OSError, ValueError) as error:
        raise TrackingError(
            f"tracking: a server must answer at '{uri}' within {PROBE_TIMEOUT_S:g} s, "
            f"but got: {error}. Start it (mlflow server), correct the address, or unset "
            "MLFLOW_TRACKING_URI to use a file."
        ) from error


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def now_ms() -> int:
    """Returns the wall clock in milliseconds since 1970, MLflow's unit."""
    return int(time.time() * 1000)


def replay_spool(uri: str, home: Path, experiment: str = DEFAULT_EXPERIMENT) -> int:
    """Delivers what processes that are gone left for this server in `home`; returns how many files
    still wait. Costs nothing when there are none."""
    folder = spool_folder(home, uri)
    waiting = len(list(folder.glob("*.jsonl")))
    if not waiting:
        return 0
    try:
        return replay_folder(folder, Delivery(uri, experiment))
    except Away as error:
        logger.warning("tracking is away, its record waits in %s: %s", folder, error)
        return waiting


class Tracker:
    """The driver's side of the record of one sweep. Nothing but `start_sweep` raises when the
    server is away: what comes then waits in `spool` (`spool_folder`) and is delivered when it is
    back.
    """

    def __init__(self, uri: str, experiment: str = DEFAULT_EXPERIMENT, *, spool: Path) -> None:
        self._uri, self._folder = uri, spool
        self._delivery = Delivery(uri, experiment)
        self._outbox = Outbox(spool, self._deliver)
        self._lock = threading.RLock()
        self._sweeps: dict[str, SweepPlan] = {}
        self._num_runs = 0
        self._outbox.start()

    def start_sweep(self, plan: SweepPlan) -> str:
        """Makes the sweep's run, or takes up the one it has; returns its run id. Raises
        `TrackingError` when the server is away: a sweep does not begin without a record.
        """
        entry = sweep_entry(plan, at_ms=now_ms())
        try:
            self.replay()
            self._deliver([entry])
            run_id = self._delivery.resolve(entry.run)
            self._num_runs = len(self._delivery.load_trials(plan.sweep_id))
        except Away as error:
            raise TrackingError(
                f"tracking: the server at '{self._uri}' must answer when a sweep starts, "
                f"but got: {error}. Start it, or unset MLFLOW_TRACKING_URI to use a file."
            ) from error
        self._sweeps[run_id] = plan
        return run_id

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
        entry = trial_entry(plan, trial, hyperparameters, label=label, at_ms=now_ms())
        around = {tags.PROVENANCE + name: fact for name, fact in provenance().items()}
        around[tags.PARENT_RUN] = sweep_run_id
        entry = entry.model_copy(update={"tags": entry.tags | around})
        run_id = self.start_run(entry)
        self._num_runs += 1
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
    ) -> None:
        """Sets the trial's state and its objective (finite or NaN); `error` says why it failed."""
        found = {tags.STATE: str(state)} | ({tags.ERROR: error} if error else {})
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

    def finish_sweep(self, run_id: str, state: TrialState, facts: Mapping[str, Any]) -> None:
        """Sets the sweep's state and keeps `facts` (JSON values) as tags; trials that are still
        running by then are cancelled, so that no run stays RUNNING.
        """
        found = {tags.FACT + name: as_text(value) for name, value in facts.items()}
        self._put(
            StateEntry(
                run=run_id,
                at_ms=now_ms(),
                status=MLFLOW_STATUS[state],
                tags=found | {tags.STATE: str(state)},
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

    def log_artifact(self, run_id: str, path: Path, artifact_path: str | None = None) -> None:
        """Copies a file or folder to the run's artifacts, below the folder `artifact_path`."""
        entry = FileEntry(run=run_id, at_ms=now_ms(), path=str(path), folder=artifact_path)
        self._put(entry)

    def replay(self) -> int:
        """Delivers what processes that are gone left in the spool; returns how many files still
        wait. Raises `Away` when the server does not answer.
        """
        return replay_folder(self._folder, self._deliver)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Delivers what is left; returns whether all is recorded (the rest stays in the spool)."""
        delivered = self._outbox.close(timeout_s)
        try:
            return self.replay() == 0 and delivered
        except Away as error:
            logger.warning("tracking is away, its record waits in %s: %s", self._folder, error)
            return False

    def analyze(self) -> None:
        """Gives SQLite the statistics without which it searches 10,000 runs 94 times slower."""
        if not self._uri.startswith(SQLITE):
            return
        with closing(sqlite3.connect(self._uri.removeprefix(SQLITE), timeout=5)) as database:
            try:
                database.execute("ANALYZE")
            except sqlite3.OperationalError as error:
                logger.info("the store is busy, its statistics are renewed later: %s", error)

    def _put(self, entry: Entry) -> None:
        """Delivers at once when nothing waits before it; else it takes its place behind."""
        if not self._outbox.is_empty:
            self._outbox.put(entry)
            return
        try:
            rejected = self._deliver([entry])
        except Away as error:
            logger.warning("tracking is away, its record waits in %s: %s", self._folder, error)
            self._outbox.put(entry)
            return
        for found in rejected:
            logger.warning("tracking refused %s: %s", found.entry.kind, found.reason)

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


class Sink:
    """A trial's side of the record, used on its rank 0: every call but `close` returns at once and
    none raises, whatever the server does.
    """

    def __init__(self, run: str, outbox: Outbox) -> None:
        self._run, self._outbox = run, outbox

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of one optimiser step; NaN and infinities are kept as such."""
        values = {name: float(value) for name, value in metrics.items()}
        self._outbox.put(MetricsEntry(run=self._run, at_ms=now_ms(), step=step, metrics=values))

    def upload(self, path: str | Path, artifact_path: str | None = None) -> None:
        """Takes a file or folder that has to stay where it is until it is uploaded."""
        entry = FileEntry(run=self._run, at_ms=now_ms(), path=str(path), folder=artifact_path)
        self._outbox.put(entry)

    def close(self, timeout_s: float) -> bool:
        """Delivers what is left for at most `timeout_s`, the rest waits in the spool. Returns
        whether all was delivered.
        """
        try:
            return self._outbox.close(timeout_s)
        except OSError as error:
            logger.error(
                "the last metrics of %s are lost, the spool is not writable: %s", self._run, error
            )
            return False


@dataclass(frozen=True)
class SinkFactory:
    """Makes sinks in a worker; picklable. spool: a folder, shared with the driver where there is
    one.
    """

    uri: str
    spool: str
    experiment: str = DEFAULT_EXPERIMENT

    def __call__(self, run_id: str) -> Sink:
        """Returns the sink of one run (`Tracker.start_trial`'s answer), with its thread started."""
        outbox = Outbox(Path(self.spool), Delivery(self.uri, self.experiment))
        outbox.start()
        return Sink(run_id, outbox)
