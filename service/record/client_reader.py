"""Reads a store by MLflow's own client, which knows every kind of store and takes a second or more
to load."""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.record.client import connect
from service.record.reading import (
    PAGE,
    Experiment,
    Point,
    Search,
    StoredModel,
    StoredRun,
    answering,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

READY = "READY"  # of MLflow's LoggedModelStatus


class ClientReader:
    """A `Reader`, and the way to artifacts, wherever they lie. MLflow is loaded when the first
    question is asked."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    @cached_property
    def _client(self) -> "MlflowClient":
        return connect(self._uri)

    def experiments(self, *, deleted: bool = False) -> list[Experiment]:
        """Returns the experiments that are not deleted, or those that are."""
        from mlflow.entities import ViewType

        kind = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
        found = self._pages(
            lambda token: self._client.search_experiments(view_type=kind, page_token=token)
        )
        return [Experiment(one.experiment_id, one.name) for one in found]

    def runs(self, search: Search) -> Iterator[StoredRun]:
        """Yields the runs, the newest first and of equally new ones by id."""
        if not search.experiments:
            return

        def question(token: str | None) -> Any:
            return self._client.search_runs(
                experiment_ids=list(search.experiments),
                filter_string=search.filter_string(),
                max_results=PAGE,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )

        for run in self._pages(question):
            if search.holds(run.data.tags):
                yield _stored(run)

    def artifact_place(self, run_id: str) -> str:
        """Returns where the run's files are, as MLflow has it."""
        with answering(self._uri):
            return str(self._client.get_run(run_id).info.artifact_uri)

    def history(self, run_id: str, metric: str) -> list[Point]:
        """Returns all values of a run's metric, in no order that counts."""
        with answering(self._uri):
            found = self._client.get_metric_history(run_id, metric)
        return [Point(one.step, one.value, one.timestamp) for one in found]

    def models(self, run_id: str) -> list[StoredModel]:
        """Returns the models that a run has logged."""
        with answering(self._uri):
            experiment = self._client.get_run(run_id).info.experiment_id
            found = self._client.search_logged_models(
                [experiment], filter_string=f"source_run_id = '{run_id}'"
            )
        return [
            StoredModel(one.model_id, one.artifact_location, str(one.status) == READY)
            for one in found
        ]

    def artifacts(self, run_id: str) -> list[str]:
        """Returns the names of the files and folders that the run keeps, at the top. Raises what
        MLflow raises."""
        return [entry.path for entry in self._client.list_artifacts(run_id)]

    def download(self, run_id: str, artifact: str, folder: Path) -> Path:
        """Copies an artifact (file or folder) into `folder`, which is there, and returns where it
        is. Raises what MLflow raises."""
        return Path(self._client.download_artifacts(run_id, artifact, str(folder)))

    def _pages(self, question: Callable[[str | None], Any]) -> Iterator[Any]:
        token: str | None = None
        while True:
            with answering(self._uri):
                found = question(token)
            yield from found
            token = found.token
            if not token:
                return


def _stored(run: "Run") -> StoredRun:
    return StoredRun(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        experiment_id=run.info.experiment_id,
        status=run.info.status,
        started_ms=run.info.start_time,
        ended_ms=run.info.end_time,
        params=dict(run.data.params),
        tags=dict(run.data.tags),
        metrics=dict(run.data.metrics),
    )
