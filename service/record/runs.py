"""Reads the record back: sweeps, trials, the best ones, and their files."""

import difflib
import heapq
import logging
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from service.errors import TrackingError
from service.record import tags
from service.record.conditions import check_group, conditions, equals, group_of
from service.record.metric_names import names_in_store, plain_metrics, plain_name
from service.record.records import RunRecord, SweepRecord, run_record, sweep_record
from service.record.store_client import StoreClient
from service.words import LATEST
from trainers.trial.trial_file import TrialFile

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

logger = logging.getLogger(__name__)
T = TypeVar("T")
PAGE = 1000


class Runs:
    """Queries over the store at `uri`: over one experiment of it, or over all that hold sweeps.
    Every method raises `TrackingError` when the store does not answer or does not hold what is
    asked for. A run whose tags were edited so that it cannot be read is warned of and left out.
    """

    def __init__(self, uri: str, experiment: str | None = None) -> None:
        self.uri, self._experiment = uri, experiment
        self._store = StoreClient(uri)
        self._homes: dict[str, str] = {}  # sweep id → the experiment of its newest run

    def sweeps(self) -> list[SweepRecord]:
        """Returns all sweeps, the newest first."""
        conditions = [equals("tags", tags.KIND, tags.KIND_SWEEP)]
        pages = self._search(conditions, self._store.experiments(self._experiment))
        found = list(_readable(sweep_record, pages))
        self._homes = {one.sweep_id: one.experiment_id for one in reversed(found)}
        return found

    def resolve_sweep(self, reference: str) -> SweepRecord:
        """Returns the sweep that an id, a unique prefix of one, a name (its newest) or `latest`
        means.
        """
        sweeps = self.sweeps()
        if not sweeps:
            raise TrackingError(
                f"tracking: no sweep is recorded in '{self.uri}'. Run one first."
                f"{self._store.deleted_experiments()}"
            )
        if reference == LATEST:
            return sweeps[0]
        exact = [one for one in sweeps if reference in (one.sweep_id, one.run_id)]
        named = [one for one in sweeps if one.name == reference]
        if exact or named:
            return (exact or named)[0]
        begin = [one for one in sweeps if one.sweep_id.startswith(reference)]
        if len(begin) == 1:
            return begin[0]
        deleted = self._store.deleted_experiments()
        raise TrackingError(_no_such_sweep(reference, sweeps, begin) + deleted)

    def trials(self, sweep_id: str) -> list[RunRecord]:
        """Returns the sweep's trials by number; empty when it has none yet."""
        found = self._trials(sweep_id, {})
        return sorted(_readable(run_record, found), key=lambda record: record.trial)

    def best(
        self,
        sweep_id: str | None,
        metric: str,
        direction: str,
        *,
        where: Sequence[str] = (),
        top: int = 10,
        per: str | None = None,
    ) -> list[RunRecord]:
        """Returns the `top` trials (of each value of the hyperparameter `per`) by the metric's last
        value, the best first; trials without a finite value, failed and diverged ones are left out.

        sweep_id: None means all sweeps; direction: maximize | minimize; where: `field=value`, all
        of them must hold, for a field of the trial's config or `state`, `label`, `device`. Raises
        `SpecError` for a field that is not known.
        """
        check_group(per)
        wanted = conditions(where)
        order = "DESC" if direction == "maximize" else "ASC"
        filters = [one.filter for one in wanted if one.filter is not None]
        filters += [equals("tags", tags.SWEEP_ID, sweep_id)] if sweep_id else []
        # Completed and stopped early: what FINISHED means, see `states.py`.
        filters.append("attributes.status = 'FINISHED'")
        is_exact = all(one.filter is not None for one in wanted)
        page = top if is_exact and per is None else PAGE
        chosen: list[RunRecord] = []
        counts: Counter[str] = Counter()
        for record in self._ranked(sweep_id, metric, order, filters, page=page):
            is_trial = record.tags.get("kind") == tags.KIND_TRIAL
            if not is_trial or not all(one.holds(record) for one in wanted):
                continue
            group = group_of(record, per) if per else ""
            counts[group] += 1
            if counts[group] <= top:
                chosen.append(record)
            if len(chosen) == top and not per:
                break  # one run more would ask for another page
        return chosen

    def _ranked(
        self, sweep_id: str | None, metric: str, order: str, filters: list[str], *, page: int
    ) -> Iterator[RunRecord]:
        """Yields the runs that meet all `filters` and have a finite value of the metric, the best
        first, by whichever name they have it under."""
        experiments = self._experiments(sweep_id)
        newer, *older = names_in_store(metric)

        def under(name: str) -> "Iterator[Run]":
            # Of equals the earlier first, as everywhere.
            orders = [f"metrics.`{name}` {order}", "attributes.start_time ASC"]
            found = self._store.runs(experiments, filters, orders, page=page)
            # MLflow sorts NaN, and runs without the metric, behind all others.
            ranked = takewhile(lambda run: _is_finite(run.data.metrics.get(name)), found)
            return (run for run in ranked if name == newer or newer not in run.data.metrics)

        sign = -1 if order == "DESC" else 1
        merged = heapq.merge(
            *(under(name) for name in (newer, *older)),
            key=lambda run: (
                sign * plain_metrics(run.data.metrics)[plain_name(metric)],
                run.info.start_time,
            ),
        )
        return _readable(run_record, merged)

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
            raise TrackingError(
                f"run '{reference}': must be the id of one run, its first digits, or "
                f"SWEEP/NUMBER, but it {what}. `kd-sweep trials SWEEP` lists them."
            )
        kind = found[0].data.tags.get(tags.KIND)
        if kind not in (tags.KIND_TRIAL, tags.KIND_RERUN):
            raise TrackingError(
                f"run '{reference}': must be a trial, "
                f"but got '{found[0].info.run_name}'. "
                "`kd-sweep trials SWEEP` lists them."
            )
        try:
            return run_record(found[0])
        except ValueError as error:
            raise TrackingError(str(error)) from error

    def experiment_of(self, record: RunRecord) -> str:
        """Returns the name of the experiment that holds the run."""
        found = self._store.ask(lambda client: client.get_experiment(record.experiment_id))
        return str(found.name)

    def trial_file(self, run_id: str) -> TrialFile:
        """Returns the run's `trial.json`. Raises `TrackingError` when it cannot be read."""
        try:
            with tempfile.TemporaryDirectory() as folder:
                return TrialFile.read(self.download(run_id, "trial.json", Path(folder)))
        except ValueError as error:
            raise TrackingError(f"run '{run_id}': {error}") from error

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """Returns (step, value) in order of the steps; of a step done twice, the later value."""
        points: dict[int, tuple[int, float]] = {}
        for name in names_in_store(metric):
            for one in self._store.ask(partial(_history_of, run_id=run_id, metric=name)):
                if one.step not in points or points[one.step][0] <= one.timestamp:
                    points[one.step] = (one.timestamp, one.value)
        return [(step, points[step][1]) for step in sorted(points)]

    def has_artifact(self, run_id: str, name: str) -> bool:
        """Returns whether the run keeps a file or folder of that name, at the top."""
        listed = self._store.ask(lambda client: client.list_artifacts(run_id))
        return name in {entry.path for entry in listed}

    def download(self, run_id: str, artifact: str, folder: Path) -> Path:
        """Copies an artifact (file or folder) into `folder` and returns where it is."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return Path(self._store.client.download_artifacts(run_id, artifact, str(folder)))
        except Exception as error:
            raise TrackingError(
                f"run '{run_id}': needs the artifact '{artifact}', but got: {error}"
            ) from error

    def _by_run_id(self, reference: str) -> "list[Run]":
        if not reference.isalnum():
            return []
        conditions = [f"attributes.run_id LIKE '{reference}%'"]
        return list(islice(self._search(conditions, self._experiments(None)), 2))

    def _trials(self, sweep_id: str, values: Mapping[str, str]) -> "list[Run]":
        wanted = {tags.SWEEP_ID: sweep_id, tags.KIND: tags.KIND_TRIAL, **values}
        conditions = [equals("tags", name, value) for name, value in wanted.items()]
        return list(self._search(conditions, self._experiments(sweep_id)))

    def _search(self, conditions: Sequence[str], experiments: list[str]) -> "Iterator[Run]":
        """Yields the runs of `experiments` that meet all conditions, the newest first."""
        return self._store.runs(experiments, conditions, ["attributes.start_time DESC"], page=PAGE)

    def _experiments(self, sweep_id: str | None) -> list[str]:
        """Returns the experiments to look for the trials of a sweep in, None for all sweeps'."""
        if sweep_id is not None:
            known = self._homes.get(sweep_id)
            return self._store.experiments(self._experiment) if known is None else [known]
        if not self._homes:
            self.sweeps()
        return sorted(set(self._homes.values()))


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _history_of(client: "MlflowClient", *, run_id: str, metric: str) -> "list[Metric]":
    return list(client.get_metric_history(run_id, metric))


def _readable(make: Callable[[Any], T], runs: "Iterable[Run]") -> Iterator[T]:
    """Yields what `make` makes of each run; one that it cannot read hides no other."""
    for run in runs:
        try:
            yield make(run)
        except ValueError as error:
            logger.warning("left out: %s", error)


def _no_such_sweep(
    reference: str, sweeps: Sequence[SweepRecord], begin: Sequence[SweepRecord]
) -> str:
    if begin:
        ids = ", ".join(one.sweep_id for one in begin)
        return f"sweep '{reference}': must be the beginning of one id, but it is that of {ids}."
    known = list(dict.fromkeys(name for one in sweeps for name in (one.sweep_id, one.name)))
    close = difflib.get_close_matches(reference, known, n=3, cutoff=0.3) or known[:3]
    return (
        f"sweep '{reference}': must be an id, the beginning of one, a name or 'latest', "
        f"but no sweep is called so. Nearest: {', '.join(close)}. `kd-sweep sweeps` lists all."
    )
