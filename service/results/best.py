"""The best trials, under one metric and under each of the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import PlanError, SpecError, TrackingError
from service.frames import Framed
from service.record.ranking import ranked
from service.record.records import RunRecord, SweepRecord
from service.record.runs import Runs
from service.words import EVERY_SWEEP
from trainers.nearest import nearest
from trainers.tasks import table
from trainers.trial.diagnosis import logit_scale_warning
from trainers.trial.fields import TaskName


@dataclass(frozen=True)
class Question:
    """Which best trials are asked for; see `Runs.finished` and `ranked`. A `metric` of None is the
    objective's."""

    sweep: str = "latest"
    metric: str | None = None
    where: Sequence[str] = ()
    per: str | None = None
    top: int = 10


@dataclass(frozen=True)
class Best(Framed):
    """`records`: the best by `metric`, best first; `winners`: metric → its best trial."""

    metric: str
    direction: str
    records: list[RunRecord]
    winners: dict[str, RunRecord]

    def to_json(self) -> list[dict[str, Any]]:
        """Returns the best trials as rows; `warning` says what to know before relying on one."""
        return [
            record.to_json() | {"warning": logit_scale_warning(record.metrics)}
            for record in self.records
        ]

    def warnings(self) -> dict[str, str]:
        """Returns the warning of each shown trial that has one, by `SWEEP/NUMBER`."""
        shown = [*self.records, *self.winners.values()]
        found = {
            f"{record.sweep_id}/{record.trial}": logit_scale_warning(record.metrics)
            for record in shown
        }
        return {name: warning for name, warning in found.items() if warning is not None}

    def export(self, runs: Runs, path: Path) -> None:
        """Writes the best trial's `trial.json`. Raises `TrackingError` when there is none,
        `PlanError` unless `path` is a new file in a folder that is there."""
        if not self.records:
            raise TrackingError(
                f"--export: a finished trial with the metric {self.metric} must be there, but got "
                "none. kd-sweep trials SWEEP shows what there is."
            )
        trial = runs.trial_file(self.records[0].run_id)
        if path.exists() or not path.parent.is_dir():
            what = "it is there" if path.exists() else "its folder is not there"
            raise PlanError(
                f"--export {path}: must be a new file in a folder that exists, but {what}. Name "
                "another one."
            )
        try:
            trial.write(path)
        except OSError as error:
            raise PlanError(f"--export {path}: must be writable, but got: {error}.") from error


def find_best(runs: Runs, question: Question) -> Best:
    """Returns the answer. Raises `TrackingError` for an unknown sweep, `SpecError` for a metric."""
    sweep = None if question.sweep == EVERY_SWEEP else runs.resolve_sweep(question.sweep)
    sweep_id = None if sweep is None else sweep.sweep_id
    of_all = table.task_named(TaskName.CAUSAL_LM).default_metric
    metric = question.metric or (of_all if sweep is None else sweep.objective_metric)
    direction = direction_of(metric, sweep)
    finished = runs.finished(sweep_id, question.where)
    records = ranked(finished, metric, direction, top=question.top, per=question.per)
    winners = {
        name: ranked(finished, name, way, top=1) for name, way in table.known_directions().items()
    }
    return Best(
        metric, direction, records, {name: best[0] for name, best in winners.items() if best}
    )


def direction_of(metric: str, sweep: SweepRecord | None) -> str:
    """Returns maximize or minimize; a sweep's own objective may turn its metric around."""
    if sweep is not None and metric == sweep.objective_metric:
        return sweep.objective_direction
    known = table.known_directions()
    if metric not in known:
        raise SpecError(
            f"--metric: must be one of {', '.join(known)}, but got '{metric}'."
            f"{nearest(metric, list(known))}"
        )
    return known[metric]
