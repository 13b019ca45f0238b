"""Puts entries into MLflow: each as often as needed, and recorded once.

A run has two names. MLflow's id is known only once its server has made the run; until then entries
carry a reference, `pending:<sweep_id>/<trial>`, which is looked up by the tags that the run was
made with. So a trial can be trained and recorded while the server is away, and whoever delivers
the entries later, this process or another, finds or makes the same run.
"""

import errno
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from service.home import SQLITE
from service.record import tags
from service.record.client import artifact_root, connect, probe
from service.record.entries import (
    PENDING,
    Away,
    Deleted,
    Entry,
    MetricsEntry,
    NeverMade,
    Rejected,
    RunEntry,
    Unresolved,
    reference_to,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)
MAX_DIGITS = 9  # of a trial's number
# Makes MLflow's pages open on training runs, not on what they have for language model calls.
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"
# MLflow's codes of errors that repeating cannot cure, and of those that pass: a full disk, a locked
# database, a token that ran out. Any other code says nothing; then the store is asked for a sign.
PERMANENT = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "INVALID_STATE"}
PASSING = {
    "TEMPORARILY_UNAVAILABLE",
    "REQUEST_LIMIT_EXCEEDED",
    "DEADLINE_EXCEEDED",
    "CUSTOMER_UNAUTHORIZED",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
}
PASSING_ERRNOS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.ESTALE,
    errno.EROFS,
    errno.EMFILE,
    errno.ENFILE,
}


class Delivery:
    """Puts entries into the store at `uri`; doing so twice changes nothing. Picklable until its
    first use, which connects: in the thread that delivers, so that no other waits for MLflow's
    import.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self._uri, self._experiment = uri, experiment
        self._runs: dict[str, str] = {}  # reference → run id
        self._never_made: set[str] = set()  # references of runs that the store refused
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
        again. An entry whose run is not there yet holds up none of another run: `Unresolved` is
        raised after these were delivered.
        """
        rejected: list[Rejected] = []
        unresolved: Unresolved | None = None
        for group in merged(entries):
            try:
                rejected += self._try(group)
            except Unresolved as error:
                unresolved = error
        if unresolved is not None:
            raise unresolved
        return rejected

    def _try(self, group: list[Entry], *, is_again: bool = False) -> list[Rejected]:
        """Delivers a group of `merged`; returns those of it that the store will never take."""
        try:
            self._deliver(group)
        except Away:
            raise
        # Training and the driver's loop go on whatever happens to the record.
        except Exception as error:
            if self._is_for_good(error):
                return self._refuse(group, error)
            # It answers now: perhaps it did not a moment ago.
            return self._refuse(group, error) if is_again else self._try(group, is_again=True)
        return []

    def _is_for_good(self, error: Exception) -> bool:
        """Returns whether the entry is at fault. Raises `Away` when the connection is, or the store
        does not answer a plain question either."""
        if isinstance(error, NeverMade) or getattr(error, "error_code", None) in PERMANENT:
            return True
        if _passes(error):
            raise Away(f"{type(error).__name__}: {error}") from error
        try:
            self.client.search_experiments(max_results=1)
        except Exception as silence:
            raise Away(f"{type(silence).__name__}: {silence}") from silence
        return False

    def _refuse(self, group: list[Entry], error: Exception) -> list[Rejected]:
        """Returns the entries at fault: of metrics that went together, those that fail alone."""
        if len(group) > 1 and getattr(error, "error_code", None) != "RESOURCE_DOES_NOT_EXIST":
            half = len(group) // 2
            return self._try(group[:half]) + self._try(group[half:])
        entry = group[0]
        if isinstance(entry, RunEntry) and entry.run not in self._runs:
            # What comes of this run later must not wait for it.
            self._never_made.add(entry.run)
        return [Rejected(entry, str(error)) for entry in group]

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
            entry = writes.continue_run(client, run_id, entry)
        writes.describe_run(client, run_id, entry)

    def resolve(self, reference: str) -> str:
        """Returns the run id that a reference stands for. Raises `Unresolved` while it does not
        exist, `NeverMade` when it never will.
        """
        if reference in self._never_made:
            raise NeverMade(f"{reference} was refused, and so is what belongs to it")
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
        return [
            run.info.run_id
            for run in self._search_or_away({tags.PARENT_RUN: sweep_run_id})
            if run.info.status in ("RUNNING", "SCHEDULED")
        ]

    def load_trials(self, sweep_id: str) -> dict[int, str]:
        """Returns the run ids of the sweep's trials. From now on only this object may make runs of
        the sweep (its driver holds the sweep's lock), so none has to be searched for. Raises
        `Away`.
        """
        found = {}
        for run in self._search_or_away({tags.SWEEP_ID: sweep_id, tags.KIND: tags.KIND_TRIAL}):
            number = run.data.tags.get(tags.TRIAL, "")
            if not (number.isascii() and number.isdigit() and len(number) <= MAX_DIGITS):
                logger.warning("run %s is no trial: its number is %.20r", run.info.run_id, number)
                continue
            found[int(number)] = run.info.run_id
            self._runs[reference_to(sweep_id, number)] = run.info.run_id
        self._complete.add(sweep_id)
        return found

    def _search_or_away(self, conditions: Mapping[str, str]) -> list[Any]:
        with or_away():
            return self._search(conditions)

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

    def tag_experiment(self, name: str, value: str) -> None:
        """Sets a tag of the experiment. Raises `Away`."""
        with or_away():
            self.client.set_experiment_tag(self.experiment_id(), name, value)

    def experiment_id(self) -> str:
        """Returns the experiment's id; makes the experiment when it is not there. Raises `Deleted`
        when it was deleted: its name stays taken until it is restored."""
        if self._experiment_id is None:
            found = self.client.get_experiment_by_name(self._experiment)
            if found and found.lifecycle_stage == "deleted":
                raise Deleted(
                    f"the experiment '{self._experiment}' is deleted. Restore it: mlflow "
                    f"experiments restore --experiment-id {found.experiment_id}; or name another "
                    "one: tracking.experiment"
                )
            self._experiment_id = found.experiment_id if found else self._create_experiment()
        return self._experiment_id

    def _create_experiment(self) -> str:
        location = _artifact_location(self._uri, self._experiment)
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


@contextmanager
def or_away() -> Iterator[None]:
    """Has whatever is raised inside be an `Away`."""
    try:
        yield
    except Away:
        raise
    except Exception as error:
        raise Away(f"{type(error).__name__}: {error}") from error


def _artifact_location(uri: str, experiment: str) -> str | None:
    """Returns where a local store keeps an experiment's artifacts; a server decides itself."""
    # A URI, in which a name's `?` or `%` would mean something else.
    return f"{artifact_root(uri)}/{quote(experiment)}" if uri.startswith(SQLITE) else None


def _passes(error: BaseException) -> bool:
    """Returns whether `error`, or what it came from, is a connection or a disk that failed."""
    from requests.exceptions import RequestException

    if getattr(error, "error_code", None) in PASSING:
        return True
    if isinstance(error, RequestException | ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in PASSING_ERRNOS:
        return True
    before = error.__cause__ or error.__context__
    return before is not None and _passes(before)


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
