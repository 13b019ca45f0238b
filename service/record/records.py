"""RunRecord and SweepRecord: what was recorded, as typed values. Pure: made from a run, not by
asking.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

from service.record import tags
from service.record.metric_names import plain_metrics
from service.record.reading import StoredRun
from service.record.rests import rested_ms
from service.states import Role, TrialState
from trainers.files.json_files import parse_json

T = TypeVar("T")


@dataclass(frozen=True)
class RunRecord:
    """One trial as it was recorded. `metrics` are the last values; NaN and infinities are kept.

    hyperparameters: what the sweep tried; config: every field of the trial's config; objective: its
    last value, None when there is none; started_at: seconds since 1970; duration_s: None while it
    runs; label: a control trial's name.
    """

    sweep_id: str
    sweep_name: str
    trial: int
    attempt: int
    run_id: str
    state: TrialState
    hyperparameters: dict[str, Any]
    metrics: dict[str, float]
    objective: float | None
    label: str | None
    started_at: float
    duration_s: float | None
    config: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    experiment_id: str = ""

    @property
    def seed(self) -> int:
        """The seed of the trial's data order and dropout."""
        return int(self.config.get("seed", 0))

    @property
    def cell(self) -> str | None:
        """The label of its cell, of a controlled study's trial."""
        return self.tags.get(own_name(tags.CELL))

    @property
    def is_searched(self) -> bool:
        """Whether it is more than a control: the sampler's, or of a cell that a study lists."""
        return self.label is None or self.cell not in (None, self.label)

    @property
    def tuned(self) -> str | None:
        """The field of its config that is tuned for each cell of its study: two cells that differ
        in it beside what is compared are meant to."""
        return self.tags.get(own_name(tags.TUNED))

    @property
    def is_tuning(self) -> bool:
        """Whether it only chose its cell's learning rate, in a study: it is compared with none."""
        return self.tags.get(own_name(tags.ROLE)) == Role.TUNING

    def metric(self, name: str) -> float | None:
        """Returns a metric's last value (`objective` is one), or None when missing, NaN or
        infinite.
        """
        value = self.objective if name == tags.OBJECTIVE else self.metrics.get(name)
        return value if value is not None and math.isfinite(value) else None

    def to_json(self) -> dict[str, Any]:
        """Returns the row of `--json`: numbers that JSON has no word for are null."""
        finite = {name: self.metric(name) for name in sorted(self.metrics)}
        objective = self.objective
        return {
            "sweep_id": self.sweep_id,
            "sweep_name": self.sweep_name,
            "trial": self.trial,
            "attempt": self.attempt,
            "run_id": self.run_id,
            "state": str(self.state),
            "label": self.label,
            "cell": self.cell,
            "role": self.tags.get(own_name(tags.ROLE)),
            "hyperparameters": self.hyperparameters,
            "metrics": finite,
            "objective": objective if objective is None or math.isfinite(objective) else None,
            "started_at": _iso(self.started_at),
            "duration_s": self.duration_s,
        }


@dataclass(frozen=True)
class SweepRecord:
    """One sweep as it was recorded; `facts` are what its driver noted at the end."""

    sweep_id: str
    name: str
    run_id: str
    state: str
    objective_metric: str
    objective_direction: str
    num_trials: int
    started_at: float
    duration_s: float | None
    facts: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    experiment_id: str = ""
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def objectives(self) -> tuple[tuple[str, str], ...]:
        """(metric, direction) of what the sweep optimises: one, or two."""
        found = [(self.objective_metric, self.objective_direction)]
        second = self.tags.get("second_objective_metric")
        if second is not None:
            found.append((second, self.tags.get("second_objective_direction", "maximize")))
        return tuple(found)

    @property
    def search(self) -> dict[str, Any]:
        """The section `search` of the sweep; empty where it was not recorded."""
        found = _value(self.tags.get("search", "{}"))
        return found if isinstance(found, dict) else {}

    @property
    def study(self) -> dict[str, int] | None:
        """Of a controlled study, how many `cells` and `seeds` it has; None of a search."""
        found = _value(self.tags.get(own_name(tags.STUDY), "null"))
        is_one = isinstance(found, dict) and {"cells", "seeds"} <= found.keys()
        return {name: int(found[name]) for name in ("cells", "seeds")} if is_one else None

    @property
    def confirms(self) -> str | None:
        """The sweep whose best configs this one trains again, on fresh seeds."""
        return self.tags.get(own_name(tags.CONFIRMS))

    def scores(self, whose: str) -> dict[str, float]:
        """Returns the finite metrics that the teacher (`tags.TEACHER`), or the student before any
        trial (`tags.UNDISTILLED`), has itself; empty where they were not measured."""
        return {
            name.removeprefix(whose): value
            for name, value in self.metrics.items()
            if name.startswith(whose) and math.isfinite(value)
        }

    @property
    def num_validation_examples(self) -> int | None:
        """Examples of the validation split; None where that was not recorded."""
        found = self.metrics.get(tags.VALIDATION_EXAMPLES)
        return None if found is None or not math.isfinite(found) else int(found)

    def to_json(self) -> dict[str, Any]:
        """Returns the row of `--json`."""
        return {
            "sweep_id": self.sweep_id,
            "sweep_name": self.name,
            "run_id": self.run_id,
            "state": self.state,
            "objective": {"metric": self.objective_metric, "direction": self.objective_direction},
            "num_trials": self.num_trials,
            "study": self.study,
            "confirms": self.confirms,
            "started_at": _iso(self.started_at),
            "duration_s": self.duration_s,
            "facts": self.facts,
        }


def run_record(run: StoredRun) -> RunRecord:
    """Returns the trial that one of MLflow's runs holds. Raises `ValueError`, which names the run,
    where its tags or params are not what was recorded: anyone may edit them."""
    return _read(_run_record, run)


def sweep_record(run: StoredRun) -> SweepRecord:
    """Returns the sweep that one of MLflow's runs holds. Raises as `run_record` does."""
    return _read(_sweep_record, run)


def _read(make: Callable[[StoredRun], T], run: StoredRun) -> T:
    try:
        return make(run)
    # What a text that is none of ours runs into: int(), also of infinity, an enum, JSON of another
    # form.
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"run '{run.run_id}': its tags and params must be as they were recorded, but got: "
            f"{error}. Correct them in MLflow, or delete the run."
        ) from error


def _run_record(run: StoredRun) -> RunRecord:
    known = run.tags
    config = {name: _value(text) for name, text in run.params.items()}
    int(config.get("seed", 0))  # which trials are paired by
    searched = _names(known.get(tags.SEARCHED, "[]"))
    metrics = plain_metrics(run.metrics)
    objective = metrics.pop(tags.OBJECTIVE, None)
    return RunRecord(
        sweep_id=known.get(tags.SWEEP_ID, ""),
        sweep_name=known.get(tags.SWEEP_NAME, ""),
        trial=int(known.get(tags.TRIAL, -1)),
        attempt=int(known.get(tags.ATTEMPT, 0)),
        run_id=run.run_id,
        state=TrialState(known.get(tags.STATE, TrialState.RUNNING)),
        hyperparameters={name: config[name] for name in searched if name in config},
        metrics=metrics,
        objective=objective,
        label=known.get(tags.LABEL),
        started_at=run.started_ms / 1000,
        duration_s=_duration_s(run),
        config=config,
        tags=_own(known),
        experiment_id=run.experiment_id,
    )


def _sweep_record(run: StoredRun) -> SweepRecord:
    known = run.tags
    facts = {
        name.removeprefix(tags.FACT): _value(text)
        for name, text in known.items()
        if name.startswith(tags.FACT)
    }
    direction = known.get(tags.OBJECTIVE_DIRECTION, "")
    if direction not in ("", "maximize", "minimize"):
        raise ValueError(
            f"{tags.OBJECTIVE_DIRECTION}: must be maximize or minimize, but got {direction!r:.60}"
        )
    return SweepRecord(
        sweep_id=known[tags.SWEEP_ID],
        name=known.get(tags.SWEEP_NAME, ""),
        run_id=run.run_id,
        state=known.get(tags.STATE, TrialState.RUNNING),
        objective_metric=known.get(tags.OBJECTIVE_METRIC, ""),
        objective_direction=direction,
        num_trials=int(known.get(tags.NUM_TRIALS, 0)),
        started_at=run.started_ms / 1000,
        duration_s=_duration_s(run),
        facts=facts,
        tags=_own(known),
        experiment_id=run.experiment_id,
        metrics=dict(run.metrics),
    )


def own_name(tag: str) -> str:
    """Returns the name under which `RunRecord.tags` and `SweepRecord.tags` have a tag of ours."""
    return tag.removeprefix(tags.PREFIX)


def _own(known: Mapping[str, str]) -> dict[str, str]:
    return {own_name(name): text for name, text in known.items() if name.startswith(tags.PREFIX)}


def as_text(value: Any) -> str:
    """Returns text as it is and everything else as JSON, which is how params and tags keep it."""
    return value if isinstance(value, str) else json.dumps(value)


def _value(text: str) -> Any:
    """Params and tags are text: JSON where it is JSON, else the text itself."""
    # A list or an object belongs to its record alone.
    return _scalar.__wrapped__(text) if text[:1] in ("[", "{") else _scalar(text)


@lru_cache(maxsize=10_000)  # the trials of a sweep have most values in common
def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


@lru_cache(maxsize=100)
def _names(text: str) -> tuple[str, ...]:
    """Returns the hyperparameters that were searched."""
    found = parse_json(text, tags.SEARCHED)
    if not isinstance(found, list):
        raise ValueError(f"{tags.SEARCHED}: must be a list of names, but got {found!r:.60}")
    return tuple(found)


def _duration_s(run: StoredRun) -> float | None:
    if run.ended_ms is None or run.status == "RUNNING":
        return None
    return float(max(0, run.ended_ms - run.started_ms - rested_ms(run.tags))) / 1000


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
