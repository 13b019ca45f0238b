"""Reads the record back: sweeps, trials, the best ones, and their files."""

import difflib
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeVar

from service.errors import NotRecorded, TrackingError
from service.record import tags
from service.record.artifacts import Artifacts
from service.record.metric_names import names_in_store
from service.record.moved import trial_here
from service.record.open_reader import open_reader
from service.record.reading import Reader, Search, StoredRun, answering
from service.record.records import RunRecord, SweepRecord, run_record, sweep_record
from service.which import sweeps_meant
from trainers.files.urls import without_secrets
from trainers.trial.trial_file import TrialFile

logger = logging.getLogger(__name__)
T = TypeVar("T")
SHOWN = 3  # deleted experiments


class Runs:
    """Queries over the store at `uri`: over one experiment of it, or over all that hold sweeps.
    Every method raises `TrackingError` when the store does not answer or does not hold what is
    asked for. A run whose tags were edited so that it cannot be read is warned of and left out.
    home: where inputs of trials are looked for before where they were recorded.
    """

    def __init__(self, uri: str, experiment: str | None = None, home: Path | None = None) -> None:
        self.uri, self._experiment, self._home = uri, experiment, home
        self._files = Artifacts(uri)
        self._homes: dict[str, str] = {}  # sweep id → the experiment of its newest run

    @cached_property
    def _reader(self) -> Reader:
        return open_reader(self.uri)

    def sweeps(self) -> list[SweepRecord]:
        """Returns all sweeps, the newest first."""
        wanted = Search(self._known_experiments(), {tags.KIND: tags.KIND_SWEEP})
        pages = self._reader.runs(wanted)
        found = list(_readable(sweep_record, pages))
        self._homes = {one.sweep_id: one.experiment_id for one in reversed(found)}
        return found

    def confirming(self, sweep_id: str) -> list[SweepRecord]:
        """Returns the studies that train the sweep's best configs again, the newest first."""
        wanted = {tags.KIND: tags.KIND_SWEEP, tags.CONFIRMS: sweep_id}
        pages = self._reader.runs(Search(self._known_experiments(), wanted))
        return list(_readable(sweep_record, pages))

    def resolve_sweep(self, reference: str) -> SweepRecord:
        """Returns the sweep that an id, a unique prefix of one, a name (its newest) or `latest`
        means.
        """
        sweeps = self.sweeps()
        if not sweeps:
            raise NotRecorded(
                f"tracking: no sweep is recorded in '{without_secrets(self.uri)}'. Run one first."
                f"{self._deleted_experiments()}"
            )
        meant = sweeps_meant(reference, [(one.sweep_id, one.name) for one in sweeps])
        found = [one for one in sweeps if one.run_id == reference or meant == [one.sweep_id]]
        if found:
            return found[0]
        deleted = self._deleted_experiments()
        raise NotRecorded(_no_such_sweep(reference, sweeps, meant) + deleted)

    def trials(self, sweep_id: str) -> list[RunRecord]:
        """Returns the sweep's trials by number; empty when it has none yet."""
        found = self._trials(sweep_id, {})
        return sorted(_readable(run_record, found), key=lambda record: record.trial)

    def get(self, reference: str) -> RunRecord:
        """Returns the trial that a run id, a unique prefix of one, or `SWEEP/NUMBER` means."""
        if "/" in reference:
            sweep, _, number = reference.rpartition("/")
            sweep_id = self.resolve_sweep(sweep).sweep_id
            found = self._trials(sweep_id, {tags.TRIAL: number})
        else:
            found = self._by_run_id(reference)
        if len(found) != 1:
            what = "is not unique" if found else "is not there"
            raise NotRecorded(
                f"run '{reference}': must be the id of one run, its first digits, or "
                f"SWEEP/NUMBER, but it {what}. `kd-sweep trials SWEEP` lists them."
            )
        kind = found[0].tags.get(tags.KIND)
        if kind not in (tags.KIND_TRIAL, tags.KIND_RERUN):
            raise NotRecorded(
                f"run '{reference}': must be a trial, "
                f"but got '{found[0].name}'. "
                "`kd-sweep trials SWEEP` lists them."
            )
        try:
            return run_record(found[0])
        except ValueError as error:
            raise TrackingError(str(error)) from error

    def experiment_of(self, record: RunRecord) -> str:
        """Returns the name of the experiment that holds the run."""
        known = {one.experiment_id: one.name for one in self._reader.experiments()}
        if record.experiment_id not in known:
            raise TrackingError(
                f"run '{record.run_id}': its experiment must be there, but got none with the id "
                f"{record.experiment_id}. Was it deleted?"
            )
        return known[record.experiment_id]

    def trial_file(self, run_id: str) -> TrialFile:
        """Returns the run's `trial.json`. Raises `TrackingError` when it cannot be read."""
        try:
            with tempfile.TemporaryDirectory() as folder:
                trial = TrialFile.read(self.download(run_id, "trial.json", Path(folder)))
                return trial if self._home is None else trial_here(trial, self._home)
        except ValueError as error:
            raise TrackingError(f"run '{run_id}': {error}") from error

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """Returns (step, value) in order of the steps; of a step done twice, the later value."""
        points: dict[int, tuple[int, float]] = {}
        for name in names_in_store(metric):
            for one in self._reader.history(run_id, name):
                if one.step not in points or points[one.step][0] <= one.at_ms:
                    points[one.step] = (one.at_ms, one.value)
        return [(step, points[step][1]) for step in sorted(points)]

    def has_artifact(self, run_id: str, name: str) -> bool:
        """Returns whether the run keeps a file or folder of that name, at the top."""
        place = self._reader.artifact_place(run_id)
        with answering(self.uri):
            return name in self._files.names(run_id, place)

    def download(self, run_id: str, artifact: str, folder: Path) -> Path:
        """Copies an artifact (file or folder) into `folder` and returns where it is."""
        place = self._reader.artifact_place(run_id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return self._files.download(run_id, place, artifact, folder)
        except Exception as error:
            raise TrackingError(
                f"run '{run_id}': needs the artifact '{artifact}', but got: {error}"
            ) from error

    def _by_run_id(self, reference: str) -> list[StoredRun]:
        if not reference.isalnum():
            return []
        search = Search(self._experiments(None), begins=reference)
        return list(islice(self._reader.runs(search), 2))

    def _trials(self, sweep_id: str, values: Mapping[str, str]) -> list[StoredRun]:
        wanted = {tags.SWEEP_ID: sweep_id, tags.KIND: tags.KIND_TRIAL, **values}
        return list(self._reader.runs(Search(self._experiments(sweep_id), wanted)))

    def _experiments(self, sweep_id: str | None) -> list[str]:
        """Returns the experiments to look for the trials of a sweep in, None for all sweeps'."""
        if sweep_id is not None:
            known = self._homes.get(sweep_id)
            return self._known_experiments() if known is None else [known]
        if not self._homes:
            self.sweeps()
        return sorted(set(self._homes.values()))

    def _known_experiments(self) -> list[str]:
        """Returns the ids of the experiments that are looked into and not deleted."""
        found = self._reader.experiments()
        return [one.experiment_id for one in found if self._experiment in (None, one.name)]

    def _deleted_experiments(self) -> str:
        """Says which experiments are deleted: a sweep that is missed may be in one. Empty when
        there are none."""
        found = self._reader.experiments(deleted=True)
        if not found:
            return ""
        names = ", ".join(f"'{one.name}' (id {one.experiment_id})" for one in found[:SHOWN])
        return (
            f" Not looked into, because it is deleted: experiment {names}; mlflow experiments "
            "restore --experiment-id ID brings one back."
        )


def _readable(make: Callable[[StoredRun], T], runs: Iterable[StoredRun]) -> Iterator[T]:
    """Yields what `make` makes of each run; one that it cannot read hides no other."""
    for run in runs:
        try:
            yield make(run)
        except ValueError as error:
            logger.warning("left out: %s", error)


def _no_such_sweep(reference: str, sweeps: Sequence[SweepRecord], begun: Sequence[str]) -> str:
    if begun:
        ids = ", ".join(begun)
        return f"sweep '{reference}': must be the beginning of one id, but it is that of {ids}."
    known = list(dict.fromkeys(name for one in sweeps for name in (one.sweep_id, one.name)))
    close = difflib.get_close_matches(reference, known, n=3, cutoff=0.3) or known[:3]
    return (
        f"sweep '{reference}': must be an id, the beginning of one, a name or 'latest', "
        f"but no sweep is called so. Nearest: {', '.join(close)}. `kd-sweep sweeps` lists all."
    )
