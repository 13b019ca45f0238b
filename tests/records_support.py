"""Plans, trials and finished sweeps that tests of the record start from."""

import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import MappingProxyType
from typing import Any

from service.home import spool_folder
from service.plan.estimates import InputFacts
from service.plan.plan import SweepPlan, make_plan
from service.plan.resources import Resources
from service.record.records import RunRecord
from service.record.sink import SinkFactory
from service.record.store import ensure_store
from service.record.tracking import Tracker
from service.spec.parse import parse_spec
from service.states import TrialState
from service.workspace import Workspace
from trainers.trial.config import TrialConfig
from trainers.trial.trial_file import TrialFile, TrialPaths

DOCUMENT: dict[str, Any] = {
    "name": "toy",
    "teacher": {"config": {"model_type": "gpt2"}},
    "student": {"config": {"model_type": "gpt2"}},
    "data": {"train": "builtin:docstrings", "validation": "builtin:docstrings"},
    "training": {"steps": 4},
    "search": {
        "divergence": {"choice": ["forward_kl", "reverse_kl"]},
        "tau": {"float": [0.5, 8], "log": True},
    },
    "trials": 6,
}


def plan_of(name: str = "toy", code_version: str = "1") -> SweepPlan:
    """A plan of a small sweep; another code version makes another sweep id."""
    return make_plan(
        parse_spec(DOCUMENT | {"name": name}),
        InputFacts(fingerprints={"data": "d" * 64}),
        Resources(num_cpus=2),
        code_version=code_version,
    )


def trial_of(
    plan: SweepPlan, number: int, values: Mapping[str, Any], attempt: int = 0
) -> TrialFile:
    """The trial of a plan with these hyperparameters."""
    return TrialFile(
        sweep_id=plan.sweep_id,
        trial=number,
        attempt=attempt,
        config=TrialConfig.model_validate({"steps": 4} | dict(values)),
        fingerprints={"data": "d" * 64, "teacher": "t" * 64},
        versions={"torch": "2.13.0"},
        paths=TrialPaths(teacher="/t", student="/s", data="/d"),
    )


@cache
def _empty_store() -> Path:
    """A store made once; its copies save each test two seconds of schema."""
    folder = Path(mkdtemp(prefix="kd-store-"))
    ensure_store(Workspace(folder).tracking_uri, folder)
    return folder / "mlflow.db"


def make_store(home: Path) -> str:
    """The URI of a fresh store in `home`."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(_empty_store(), home / "mlflow.db")
    return Workspace(home).tracking_uri


def make_tracker(uri: str, home: Path) -> Tracker:
    """A tracker with its spool in `home`."""
    return Tracker(uri, spool=spool_folder(home, uri))


def make_sinks(uri: str, home: Path) -> SinkFactory:
    """The sinks that belong to `make_tracker`."""
    return SinkFactory(uri, str(spool_folder(home, uri)))


def record_sweep(
    uri: str, home: Path, plan: SweepPlan, rows: list[tuple[dict[str, Any], dict[str, float]]]
) -> str:
    """Records a finished sweep with a completed trial for each (hyperparameters, metrics)."""
    tracker, sinks = make_tracker(uri, home), make_sinks(uri, home)
    sweep = tracker.start_sweep(plan)
    for number, (values, metrics) in enumerate(rows):
        run = tracker.start_trial(
            sweep, trial_of(plan, number, values), hyperparameters=values, label=None
        )
        sink = sinks(run)
        sink.log(4, metrics)
        assert sink.close(10)
        tracker.finish_trial(run, TrialState.COMPLETED, objective=metrics.get("rouge_l"))
    tracker.finish_sweep(sweep, TrialState.COMPLETED)
    assert tracker.close()
    return sweep


def record_of(
    trial: int,
    values: Mapping[str, Any],
    metrics: Mapping[str, float],
    *,
    state: TrialState = TrialState.COMPLETED,
    label: str | None = None,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> RunRecord:
    """A trial as it would be read back, its config filled up as a real one's."""
    config = TrialConfig.model_validate({"steps": 4} | dict(values))
    return RunRecord(
        sweep_id="toy-1a2b3c4d",
        sweep_name="toy",
        trial=trial,
        attempt=0,
        run_id=f"{trial:032x}",
        state=state,
        hyperparameters=dict(values),
        metrics=dict(metrics),
        objective=metrics.get("rouge_l"),
        label=label,
        started_at=0.0,
        duration_s=1.0,
        config=config.model_dump(mode="json", exclude_none=True),
        tags={"kind": "trial"} | dict(tags),
    )
