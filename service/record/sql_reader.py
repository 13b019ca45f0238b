"""Reads a store in a database by plain SQL, which takes a tenth of what MLflow's client takes. The
tables are those of MLflow's schema in the versions that `service.record.schema` names."""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from math import nan
from typing import Any

import sqlalchemy as sa

from service.home import SQLITE, sqlite_path
from service.record.reading import (
    PAGE,
    Experiment,
    Point,
    Search,
    StoredModel,
    StoredRun,
    answering,
)
from service.record.schema import is_known

WORKSPACE = "default"  # the only one, unless MLflow's server was started with others
# dialect → its function that makes one JSON object of names and values
OBJECT_OF = {"sqlite": "json_group_object", "postgresql": "json_object_agg"}


def _table(name: str, *columns: str) -> sa.TableClause:
    return sa.table(name, *(sa.column(column) for column in columns))


VERSION = _table("alembic_version", "version_num")
EXPERIMENTS = _table("experiments", "experiment_id", "name", "lifecycle_stage", "workspace")
FACTS = ("run_uuid", "name", "experiment_id", "status", "start_time", "end_time")
RUNS = _table("runs", *FACTS, "lifecycle_stage", "artifact_uri")
TEXTS = {kind: _table(kind, "run_uuid", "key", "value") for kind in ("params", "tags")}
LATEST = _table("latest_metrics", "run_uuid", "key", "value", "is_nan")
MODELS = _table(
    "logged_models",
    "model_id",
    "artifact_location",
    "status",
    "lifecycle_stage",
    "source_run_id",
)
READY = 2  # of MLflow's LoggedModelStatus
METRICS = _table("metrics", "run_uuid", "key", "step", "value", "is_nan", "timestamp")


class SqlReader:
    """A `Reader` of the database at `uri`. A database without MLflow's tables has no experiment;
    nothing is made."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        with answering(uri):
            # A connection is opened for each question: SQLite plans with the statistics that it
            # found when it was opened, and a sweep that is followed grows.
            self._engine = sa.create_engine(uri, poolclass=sa.NullPool)

    @cached_property
    def is_made(self) -> bool:
        """Whether MLflow's tables are there. Raises `TrackingError` where they cannot be, too."""
        if self._uri.startswith(SQLITE):
            path = sqlite_path(self._uri)
            # Opening it would make it.
            if not path.exists() and path.parent.is_dir():
                return False
        with answering(self._uri), self._engine.connect() as database:
            return sa.inspect(database).has_table(VERSION.name)

    @cached_property
    def is_known(self) -> bool:
        """Whether the database and its schema are such that are read here, or there is none yet."""
        if self._engine.dialect.name not in OBJECT_OF:
            return False
        if not self.is_made:
            return True
        if not is_known({row[0] for row in self._rows(sa.select(VERSION))}):
            return False
        others = sa.select(EXPERIMENTS.c.name).where(EXPERIMENTS.c.workspace != WORKSPACE)
        return not self._rows(others.limit(1))

    def experiments(self, *, deleted: bool = False) -> list[Experiment]:
        """Returns the experiments that are not deleted, or those that are."""
        if not self.is_made:
            return []
        stage = "deleted" if deleted else "active"
        columns = EXPERIMENTS.c
        rows = self._rows(
            sa.select(columns.experiment_id, columns.name).where(columns.lifecycle_stage == stage)
        )
        return [Experiment(str(number), name) for number, name in rows]

    def runs(self, search: Search) -> Iterator[StoredRun]:
        """Yields the runs, the newest first and of equally new ones by id."""
        chosen = self._rows(_chosen(search)) if search.experiments else []
        for start in range(0, len(chosen), PAGE):
            page = chosen[start : start + PAGE]
            ids = [row[0] for row in page]
            params, tags = self._texts("params", ids), self._texts("tags", ids)
            metrics = self._metrics(ids)
            for run_id, name, experiment, status, started_ms, ended_ms in page:
                yield StoredRun(
                    run_id=run_id,
                    name=name or "",
                    experiment_id=str(experiment),
                    status=status,
                    started_ms=started_ms,
                    ended_ms=ended_ms,
                    params=params[run_id],
                    tags=tags[run_id],
                    metrics=metrics[run_id],
                )

    def artifact_place(self, run_id: str) -> str:
        """Returns where the run's files are, as MLflow has it."""
        columns = RUNS.c
        rows = self._rows(sa.select(columns.artifact_uri).where(columns.run_uuid == run_id))
        with answering(self._uri):
            if not rows:
                raise LookupError(f"no run '{run_id}'")
        return str(rows[0][0])

    def history(self, run_id: str, metric: str) -> list[Point]:
        """Returns all values of a run's metric, in no order that counts."""
        columns = METRICS.c
        rows = self._rows(
            sa.select(columns.step, columns.value, columns.is_nan, columns.timestamp).where(
                columns.run_uuid == run_id, columns.key == metric
            )
        )
        return [Point(step, nan if is_nan else value, at) for step, value, is_nan, at in rows]

    def models(self, run_id: str) -> list[StoredModel]:
        """Returns the models that a run has logged."""
        columns = MODELS.c
        rows = self._rows(
            sa.select(columns.model_id, columns.artifact_location, columns.status).where(
                columns.source_run_id == run_id, columns.lifecycle_stage == "active"
            )
        )
        return [StoredModel(name, place, status == READY) for name, place, status in rows]

    def _texts(self, kind: str, ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """Returns each run's params or tags, put together by the database: three times quicker than
        a row for each."""
        columns = TEXTS[kind].c
        together = getattr(sa.func, OBJECT_OF[self._engine.dialect.name])
        rows = self._rows(
            sa.select(columns.run_uuid, sa.cast(together(columns.key, columns.value), sa.Text))
            .where(columns.run_uuid.in_(ids))
            .group_by(columns.run_uuid)
        )
        found: dict[str, dict[str, str]] = {run_id: {} for run_id in ids}
        return found | {run_id: json.loads(text) for run_id, text in rows}

    def _metrics(self, ids: Sequence[str]) -> dict[str, dict[str, float]]:
        columns = LATEST.c
        wanted = sa.select(columns.run_uuid, columns.key, columns.value, columns.is_nan)
        found: dict[str, dict[str, float]] = {run_id: {} for run_id in ids}
        for run_id, key, value, is_nan in self._rows(wanted.where(columns.run_uuid.in_(ids))):
            found[run_id][key] = nan if is_nan else value
        return found

    def _rows(self, question: sa.Select[Any]) -> Sequence[Any]:
        with answering(self._uri), self._engine.connect() as database:
            return database.execute(question).all()


def _chosen(search: Search) -> sa.Select[Any]:
    """Returns the question for the runs alone, without what belongs to them."""
    columns = RUNS.c
    conditions = [
        columns.lifecycle_stage == "active",
        columns.experiment_id.in_([int(number) for number in search.experiments]),
    ]
    texts = TEXTS["tags"].c
    for name, value in search.tags.items():
        holds = sa.select(texts.run_uuid).where(texts.key == name, texts.value == value)
        conditions.append(columns.run_uuid.in_(holds))
    if search.begins:
        # Not LIKE, for which SQLite takes small and large letters as the same.
        conditions.append(sa.func.substr(columns.run_uuid, 1, len(search.begins)) == search.begins)
    return (
        sa.select(*(columns[name] for name in FACTS))
        .where(*conditions)
        .order_by(columns.start_time.desc(), columns.run_uuid)
    )
