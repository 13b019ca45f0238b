"""Takes a sweep's runs, students and artifacts out of the record: out of a database for good, on a
server as far as MLflow's interface goes. Importing this file does not load MLflow."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from service.record import tags
from service.record.client import artifact_root, connect
from service.record.open_reader import SERVERS
from service.record.reading import answering
from service.record.registry import versions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FILE = "file://"


@dataclass(frozen=True)
class RecordedFiles:
    """A run, the ids of its logged models, and the local folders of its artifacts and theirs, empty
    where a server keeps them."""

    run_id: str
    models: tuple[str, ...]
    folders: tuple[Path, ...]


@dataclass(frozen=True)
class SweepRuns:
    """What the record has of a sweep. run_id: the sweep's own run; trials: its other runs, reruns
    included; registered: registered versions of its students, as `NAME version N`."""

    run_id: str
    own: RecordedFiles
    trials: tuple[RecordedFiles, ...]
    registered: tuple[str, ...]


class Removal:
    """Removes from the store at `uri`. Every method raises `TrackingError` when it does not answer;
    what was removed before is not asked for again, so that each may be repeated."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.is_server = uri.startswith(SERVERS)

    def find(self, sweep_id: str, run_id: str) -> SweepRuns:
        """Returns the runs of a sweep whose own run is `run_id`; in a database also those that are
        marked as deleted."""
        with answering(self._uri):
            runs = list(self._runs_of(sweep_id))
            found = {run.info.run_id: self._files_of(run) for run in runs}
            own = found.pop(run_id)
            return SweepRuns(run_id, own, tuple(found.values()), self._registered(runs))

    def remove(self, files: RecordedFiles) -> None:
        """Removes a run with its logged models and artifacts; on a server they are marked as
        deleted, and stay until `mlflow gc` is run there."""
        with answering(self._uri):
            for model_id in files.models:
                self._remove_model(model_id)
            if self.is_server:
                self._client.delete_run(files.run_id)
            else:
                self._remove_artifacts(self._store.get_run(files.run_id).info.artifact_uri)
                self._store._hard_delete_run(files.run_id)

    @cached_property
    def _client(self) -> "MlflowClient":
        return connect(self._uri)

    @cached_property
    def _store(self) -> Any:
        # What `mlflow gc` calls, which itself would also take every deleted experiment.
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        return SqlAlchemyStore(self._uri, artifact_root(self._uri))

    def _runs_of(self, sweep_id: str) -> "Iterator[Run]":
        from mlflow.entities import ViewType

        view = ViewType.ACTIVE_ONLY if self.is_server else ViewType.ALL
        client = self._client
        experiments = [
            one.experiment_id
            for one in _pages(lambda token: client.search_experiments(view, page_token=token))
        ]
        yield from _pages(
            lambda token: client.search_runs(
                experiments,
                f"tags.`{tags.SWEEP_ID}` = '{sweep_id}'",
                view,
                max_results=1000,
                page_token=token,
            )
        )

    def _files_of(self, run: "Run") -> RecordedFiles:
        outputs = run.outputs.model_outputs if run.outputs else []
        models = tuple(str(one.model_id) for one in outputs)
        if self.is_server or not run.info.artifact_uri.startswith(FILE):
            return RecordedFiles(run.info.run_id, models, ())
        folder = _path_of(run.info.artifact_uri).parent
        of_models = (folder.parent / "models" / model_id for model_id in models)
        return RecordedFiles(run.info.run_id, models, (folder, *of_models))

    def _registered(self, runs: "Sequence[Run]") -> tuple[str, ...]:
        ids = {run.info.run_id for run in runs}
        known = versions(self._uri)
        return tuple(f"{one.name} version {one.version}" for one in known if one.run_id in ids)

    def _remove_model(self, model_id: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            if self.is_server:
                self._client.delete_logged_model(model_id)
                return
            model = self._store.get_logged_model(model_id, allow_deleted=True)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # a removal that was broken off
                return
            raise
        self._remove_artifacts(model.artifact_location)
        self._store._hard_delete_logged_model(model_id)

    def _remove_artifacts(self, uri: str) -> None:
        if uri.startswith(FILE):
            shutil.rmtree(_path_of(uri).parent, ignore_errors=True)
            return
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        get_artifact_repository(uri).delete_artifacts()


def _path_of(uri: str) -> Path:
    return Path(unquote(uri.removeprefix(FILE)))


def _pages(question: Callable[[str | None], Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        found = question(token)
        yield from found
        token = found.token
        if not token:
            return
