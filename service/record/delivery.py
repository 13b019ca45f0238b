"""Puts entries into MLflow, each as often as needed and recorded once.

Only `MlflowClient` with explicit run ids, never the fluent API, whose active run is shared state.
"""

import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.record import tags
from service.record.entries import (
    PENDING,
    Away,
    Entry,
    FileEntry,
    MetricsEntry,
    Rejected,
    RunEntry,
    StateEntry,
    TextEntry,
    Unresolved,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

SQLITE = "sqlite:///"
DEFAULT_EXPERIMENT = "kd-sweep"
MAX_BATCH = 1000
# Makes MLflow's pages open on training runs, not on what they have for language model calls.
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"
# Settings of MLflow's client that its own defaults make unfit for a training loop: seven retries of
# 120 s each. Whoever sets them in the environment keeps the last word.
CLIENT_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # where --json writes
}
# What repeating cannot cure.
PERMANENT = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "INVALID_STATE"}


def set_client_environment() -> None:
    """Sets `CLIENT_ENVIRONMENT`; to be done before MLflow is imported, which reads it then."""
    for name, value in CLIENT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def connect(uri: str) -> "MlflowClient":
    """Returns a client of the store at `uri`; nothing is asked yet of a server."""
    set_client_environment()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def probe(uri: str) -> None:
    """Raises `sqlite3.Error` at once for a SQLite file that cannot be opened; MLflow itself would
    try for 100 s. Asks nothing of other stores.
    """
    if uri.startswith(SQLITE):
        with closing(sqlite3.connect(uri.removeprefix(SQLITE))) as database:
            database.execute("PRAGMA schema_version")


def artifact_root(uri: str) -> str:
    """Returns the folder, as a URI, that holds the artifacts of a SQLite store: beside its file."""
    return (Path(uri.removeprefix(SQLITE)).resolve().parent / "artifacts").as_uri()


def reference_to(sweep_id: str, trial: int | str) -> str:
    """Returns the name that a trial's run has before MLflow gave it an id."""
    return f"{PENDING}{sweep_id}/{trial}"


class Delivery:
    """Puts entries into MLflow; doing so twice changes nothing. Made in the thread that uses it
    first, so that nobody waits for MLflow's import. Picklable.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self._uri, self._experiment = uri, experiment
        self._runs: dict[str, str] = {}
        self._complete: set[str] = set()
        self._client: MlflowClient | None = None
        self._experiment_id: str | None = None

    @property
    def client(self) -> "MlflowClient":
        """The client, connected on first use."""
        if self._client is None:
            probe(self._uri)
            self._client = connect(self._uri)
        return self._client

    def __call__(self, entries: Sequence[Entry]) -> list[Rejected]:
        """Delivers in order; returns what MLflow will never take. Raises `Away` when it does not
        answer.
        """
        rejected = []
        for group in _merged(entries):
            try:
                self._deliver(group)
            except Away:
                raise
            # Training and the driver's loop go on whatever happens to the record.
            except Exception as error:
                if getattr(error, "error_code", None) not in PERMANENT:
                    raise Away(f"{type(error).__name__}: {error}") from error
                rejected += [Rejected(entry, str(error)) for entry in group]
        return rejected

    def _deliver(self, group: list[Entry]) -> None:
        entry = group[0]
        if isinstance(entry, RunEntry):
            self.create(entry)
            return
        run_id = self.resolve(entry.run)
        if isinstance(entry, MetricsEntry):
            self._log_metrics(run_id, [one for one in group if isinstance(one, MetricsEntry)])
        elif isinstance(entry, FileEntry):
            self._upload(run_id, entry)
        elif isinstance(entry, TextEntry):
            self.client.log_text(run_id, entry.text, entry.name)
        else:
            self._set_state(run_id, entry)

    def create(self, entry: RunEntry) -> str:
        """Makes the run, or takes up the one that its tags name; returns its id."""
        run_id = self.find(entry.run)
        if run_id is None:
            run_id = self.client.create_run(
                self.experiment_id(), start_time=entry.at_ms, tags=entry.tags, run_name=entry.name
            ).info.run_id
            self._runs[entry.run] = run_id
        else:
            self.client.update_run(run_id, status="RUNNING")
            self._log_tags(run_id, entry.tags)
        self._describe(run_id, entry)
        return run_id

    def _describe(self, run_id: str, entry: RunEntry) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        if entry.params:
            self.client.log_batch(run_id, params=[Param(k, v) for k, v in entry.params.items()])
        if entry.inputs:
            inputs = [
                DatasetInput(
                    Dataset(one.name, one.digest, "local", json.dumps({"uri": one.source})),
                    [InputTag("mlflow.data.context", one.context)],
                )
                for one in entry.inputs
            ]
            self.client.log_inputs(run_id, inputs)
        for name, text in entry.texts.items():
            self.client.log_text(run_id, text, name)

    def resolve(self, reference: str) -> str:
        """Returns the run id that a reference stands for. Raises `Unresolved` while it does not
        exist.
        """
        run_id = self.find(reference)
        if run_id is None:
            raise Unresolved(f"{reference} has not been created yet")
        return run_id

    def find(self, reference: str) -> str | None:
        """Returns the run id of a reference, or None when there is no such run."""
        if not reference.startswith(PENDING):
            return reference
        sweep_id, _, trial = reference.removeprefix(PENDING).rpartition("/")
        if reference in self._runs or sweep_id in self._complete:
            return self._runs.get(reference)
        kind = tags.KIND_TRIAL if trial else tags.KIND_SWEEP
        conditions = {tags.SWEEP_ID: sweep_id, tags.KIND: kind}
        for run in self._search(conditions | ({tags.TRIAL: trial} if trial else {})):
            self._runs[reference] = run.info.run_id
        return self._runs.get(reference)

    def known(self, reference: str) -> str | None:
        """Returns the run id of a reference if it was used here before; asks nobody."""
        return self._runs.get(reference)

    def unfinished(self, sweep_run_id: str) -> list[str]:
        """Returns the trials of a sweep that still count as running. Raises `Away`."""
        try:
            return [
                run.info.run_id
                for run in self._search({tags.PARENT_RUN: sweep_run_id})
                if run.info.status in ("RUNNING", "SCHEDULED")
            ]
        except Exception as error:
            raise Away(f"{type(error).__name__}: {error}") from error

    def load_trials(self, sweep_id: str) -> dict[int, str]:
        """Returns the run ids of the sweep's trials. From now on this is its only maker of runs, so
        that none has to be searched for.
        """
        found = {}
        for run in self._search({tags.SWEEP_ID: sweep_id, tags.KIND: tags.KIND_TRIAL}):
            found[int(run.data.tags[tags.TRIAL])] = run.info.run_id
            self._runs[reference_to(sweep_id, run.data.tags[tags.TRIAL])] = run.info.run_id
        self._complete.add(sweep_id)
        return found

    def _search(self, conditions: Mapping[str, str]) -> list[Any]:
        text = " and ".join(f"tags.`{name}` = '{value}'" for name, value in conditions.items())
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id()], text, max_results=1000, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def experiment_id(self) -> str:
        """Returns the experiment's id; makes the experiment when it is not there."""
        if self._experiment_id is None:
            found = self.client.get_experiment_by_name(self._experiment)
            self._experiment_id = found.experiment_id if found else self._create_experiment()
        return self._experiment_id

    def _create_experiment(self) -> str:
        root = f"{artifact_root(self._uri)}/{self._experiment}"
        location = root if self._uri.startswith(SQLITE) else None
        try:
            made = self.client.create_experiment(
                self._experiment, artifact_location=location, tags={KIND_TAG: KIND}
            )
            return str(made)
        except Exception:
            # Another process may have been quicker; if not, the first error is the one to see.
            found = self.client.get_experiment_by_name(self._experiment)
            if found is None:
                raise
            return str(found.experiment_id)

    def _log_metrics(self, run_id: str, entries: Sequence[MetricsEntry]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, entry.at_ms, entry.step)
            for entry in entries
            for name, value in entry.metrics.items()
        ]
        for start in range(0, len(metrics), MAX_BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + MAX_BATCH])

    def _log_tags(self, run_id: str, values: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(name, text) for name, text in values.items()])

    def _upload(self, run_id: str, entry: FileEntry) -> None:
        path = Path(entry.path)
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), entry.folder)
        elif path.exists():
            self.client.log_artifact(run_id, str(path), entry.folder)
        else:
            logger.warning("%s was to be uploaded, but it is no longer there", path)

    def _set_state(self, run_id: str, entry: StateEntry) -> None:
        from mlflow.entities import Metric, RunTag

        self.client.log_batch(
            run_id,
            metrics=[Metric(name, value, entry.at_ms, 0) for name, value in entry.metrics.items()],
            tags=[RunTag(name, text) for name, text in entry.tags.items()],
        )
        if entry.status in ("RUNNING", "SCHEDULED"):
            self.client.update_run(run_id, status=entry.status)
        else:
            self.client.set_terminated(run_id, entry.status, entry.at_ms)


def _merged(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yields the entries one by one, but metrics of one run that follow each other together."""
    group: list[Entry] = []
    for entry in entries:
        joins = (
            group
            and isinstance(entry, MetricsEntry)
            and isinstance(group[0], MetricsEntry)
            and group[0].run == entry.run
        )
        if not joins and group:
            yield group
            group = []
        group.append(entry)
    if group:
        yield group
