"""Puts entries into MLflow: each as often as needed, and recorded once.

A run has two names. MLflow's id is known only once its server has made the run; until then entries
carry a reference, `pending:<sweep_id>/<trial>`, which is looked up by the tags that the run was
made with. So a trial can be trained and recorded while the server is away, and whoever delivers
the entries later, this process or another, finds or makes the same run.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from service.record import tags
from service.record.client import SQLITE, artifact_root, connect, probe
from service.record.entries import (
    PENDING,
    Away,
    Entry,
    MetricsEntry,
    Rejected,
    RunEntry,
    Unresolved,
    reference_to,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Makes MLflow's pages open on training runs, not on what they have for language model calls.
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"
# Errors that repeating cannot cure.
PERMANENT = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "INVALID_STATE"}


class Delivery:
    """Puts entries into the store at `uri`; doing so twice changes nothing. Picklable until its
    first use, which connects: in the thread that delivers, so that no other waits for MLflow's
    import.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self._uri, self._experiment = uri, experiment
        self._runs: dict[str, str] = {}  # reference → run id
        self._complete: set[str] = set()  # sweeps of which `_runs` has every trial
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
        answer: then any of the entries may have been recorded, and all of them may be delivered
        again.
        """
        rejected = []
        for group in merged(entries):
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
        client, entry = self.client, group[0]
        # Loads MLflow, whose environment `client` has set by now.
        from service.record import writes

        if not isinstance(entry, RunEntry):
            writes.write(client, self.resolve(entry.run), group)
            return
        run_id = self.find(entry.run)
        if run_id is None:
            run_id = writes.create_run(client, self.experiment_id(), entry)
            self._runs[entry.run] = run_id
        else:
            writes.continue_run(client, run_id, entry)
        writes.describe_run(client, run_id, entry)

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
        # By its tags: the attempt that made it may have died before it heard the id, or another
        # process delivered it.
        kind = tags.KIND_TRIAL if trial else tags.KIND_SWEEP
        conditions = {tags.SWEEP_ID: sweep_id, tags.KIND: kind}
        for run in self._search(conditions | ({tags.TRIAL: trial} if trial else {})):
            self._runs[reference] = run.info.run_id
        return self._runs.get(reference)

    def known(self, reference: str) -> str | None:
        """Returns the run id of a reference if it was used here before, without asking MLflow."""
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
        """Returns the run ids of the sweep's trials. From now on only this object may make runs of
        the sweep (its driver holds the sweep's lock), so none has to be searched for.
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


def merged(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yields the entries one by one, but metrics of one run that follow each other together: a
    request for each step would be too slow for a fast trial."""
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
