"""Plain questions to an MLflow store, page by page; whatever it answers with is our error."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from service.errors import TrackingError
from service.record.client import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

SHOWN = 3  # deleted experiments


class StoreClient:
    """Asks the store at `uri`. Every method raises `TrackingError` when it does not answer."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.client = connect(uri)

    def ask(self, question: "Callable[[MlflowClient], Any]") -> Any:
        """Returns what `question` gets from the client."""
        try:
            return question(self.client)
        except Exception as error:  # MLflow, requests and SQLAlchemy raise many kinds
            raise TrackingError(f"tracking: '{self._uri}' must answer, but got: {error}") from error

    def runs(
        self, experiments: list[str], conditions: Sequence[str], order: list[str], *, page: int
    ) -> "Iterator[Run]":
        """Yields the runs of `experiments` that meet all conditions, asking for `page` at a
        time."""

        def question(client: "MlflowClient", token: str | None) -> Any:
            return client.search_runs(
                experiment_ids=experiments,
                filter_string=" and ".join(conditions),
                max_results=page,
                order_by=order,
                page_token=token,
            )

        return self._pages(question)

    def experiments(self, name: str | None) -> list[str]:
        """Returns the ids of the experiments that are not deleted: of the one called `name`, or of
        all."""
        if name is None:
            return [one.experiment_id for one in self._experiments("active_only")]
        found = self.ask(lambda client: client.get_experiment_by_name(name))
        return [found.experiment_id] if found else []

    def deleted_experiments(self) -> str:
        """Says which experiments are deleted: a sweep that is missed may be in one. Empty when
        there are none."""
        found = list(self._experiments("deleted_only"))
        if not found:
            return ""
        names = ", ".join(f"'{one.name}' (id {one.experiment_id})" for one in found[:SHOWN])
        return (
            f" Not looked into, because it is deleted: experiment {names}; mlflow experiments "
            "restore --experiment-id ID brings one back."
        )

    def _experiments(self, view: str) -> "Iterator[Experiment]":
        from mlflow.entities import ViewType

        kind = ViewType.from_string(view)
        return self._pages(
            lambda client, token: client.search_experiments(view_type=kind, page_token=token)
        )

    def _pages(self, question: "Callable[..., Any]") -> Iterator[Any]:
        token: str | None = None
        while True:
            found = self.ask(partial(question, token=token))
            yield from found
            token = found.token
            if not token:
                return
