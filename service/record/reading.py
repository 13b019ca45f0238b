"""What may be asked of an MLflow store, and what comes back: plain values, the same whichever way
the store is read. Importing this file loads neither MLflow nor a database's library."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from service.errors import TrackingError
from trainers.files.urls import without_secrets

PAGE = 1000  # runs in one request; how many are in memory beside what they become


class Experiment(NamedTuple):
    """An experiment of MLflow's."""

    experiment_id: str
    name: str


@dataclass(frozen=True)
class StoredRun:
    """A run as the store has it. started_ms, ended_ms: since 1970; metrics: their last values, NaN
    included, an infinity as the store keeps it."""

    run_id: str
    name: str
    experiment_id: str
    status: str
    started_ms: int
    ended_ms: int | None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


class Point(NamedTuple):
    """One value of a metric."""

    step: int
    value: float
    at_ms: int


class StoredModel(NamedTuple):
    """A logged model of MLflow's. place: of its files; is_ready: they are all there."""

    model_id: str
    place: str
    is_ready: bool


@dataclass(frozen=True)
class Search:
    """Which runs are asked for: of these experiments, not deleted, with all of `tags` and with an
    id that `begins` so."""

    experiments: Sequence[str]
    tags: Mapping[str, str] = field(default_factory=dict)
    begins: str = ""

    def filter_string(self) -> str:
        """Returns the conditions in MLflow's own language, but for texts that it has no words for:
        `holds` finds these."""
        found = [
            f"tags.`{name}` = {quoted}"
            for name, text in self.tags.items()
            if (quoted := _quoted(text))
        ]
        found += [f"attributes.run_id LIKE '{self.begins}%'"] if self.begins else []
        return " and ".join(found)

    def holds(self, tags: Mapping[str, str]) -> bool:
        """Returns whether a run with these has all of `tags`."""
        return self.tags.items() <= tags.items()


class Reader(Protocol):
    """Reads a store. Every method raises `TrackingError` when it does not answer."""

    def experiments(self, *, deleted: bool = False) -> list[Experiment]:
        """Returns the experiments that are not deleted, or those that are."""
        ...

    def runs(self, search: Search) -> Iterator[StoredRun]:
        """Yields the runs, the newest first and of equally new ones by id."""
        ...

    def artifact_place(self, run_id: str) -> str:
        """Returns where the run's files are, as MLflow has it. Raises `TrackingError` for a run
        that is not there, too."""
        ...

    def history(self, run_id: str, metric: str) -> list[Point]:
        """Returns all values of a run's metric, in no order that counts."""
        ...

    def models(self, run_id: str) -> list[StoredModel]:
        """Returns the models that a run has logged."""
        ...


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Makes whatever goes wrong a `TrackingError` that names the store."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:  # MLflow, requests and SQLAlchemy raise many kinds
        raise TrackingError(
            f"tracking: '{without_secrets(uri)}' must answer, but got: {reason(error)}"
        ) from error


def reason(error: BaseException) -> str:
    """Returns what an error says without secrets; of a database's its own words alone, without the
    statement."""
    text = str(getattr(error, "orig", None) or error).strip()
    return without_secrets(text) or type(error).__name__


def _quoted(text: str) -> str | None:
    """Returns the text in quotes of the kind that is not in it; None for one with both, for which
    MLflow knows no way to write it."""
    found = [quote for quote in ("'", '"') if quote not in text]
    return f"{found[0]}{text}{found[0]}" if found else None
