"""The sweep that faults happen to, and what must be true of it afterwards."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fakes import make_sweep_plan
from hand_cluster import HandCluster
from mlflow import MlflowClient
from sweep_process import SweepProcess

from service.plan.places import sweep_folder
from service.record import tags
from service.search.study_trials import StudyTrial, read_trials
from service.states import TrialState

Start = Callable[..., SweepProcess]
STEP_S = 0.4
RESOURCES = """{
    "groups": [g["state"] for g in ray.util.placement_group_table().values()],
    "total": ray.cluster_resources(),
    "free": ray.available_resources(),
}"""


def document(**changes: Any) -> dict[str, Any]:
    """Eight trials of eight steps."""
    return {"name": "faults", "trials": 8, "training": {"steps": 8}} | changes


def folder_of(home: Path, **changes: Any) -> Path:
    """The sweep's folder."""
    return sweep_folder(make_sweep_plan(**document(**changes)), home)


def study_of(home: Path, **changes: Any) -> list[StudyTrial]:
    """The sweep's trials as the study has them."""
    folder = folder_of(home, **changes)
    return read_trials(str(folder / "study.journal"), folder.name)


def assert_whole(home: Path, cluster: HandCluster, uri: str | None = None, **changes: Any) -> None:
    """Every trial is completed once and recorded, no run is left RUNNING, no resource is held."""
    records = study_of(home, **changes)
    completed = [r.number for r in records if r.state is TrialState.COMPLETED]
    assert len(completed) == document(**changes)["trials"], [(r.number, r.state) for r in records]
    for number in completed:
        finished = folder_of(home, **changes) / "trials" / str(number) / "finished"
        assert not finished.exists() or len(finished.read_text().split()) == 1
    runs = runs_of(uri or f"sqlite:///{home}/mlflow.db")
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert set(completed) <= runs.keys()
    assert_nothing_is_held(cluster)


def runs_of(uri: str) -> dict[int, Any]:
    """MLflow's runs by trial, the sweep's own under -1; a trial has one."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("kd-sweep")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    numbers = [int(run.data.tags.get(tags.TRIAL, -1)) for run in found]
    assert len(set(numbers)) == len(numbers)
    return dict(zip(numbers, found, strict=True))


def steps_logged(uri: str, trial: int) -> list[int]:
    """The steps whose loss the trial's run has, in order, each as often as it was logged."""
    run = runs_of(uri)[trial]
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "train/loss")
    return sorted(point.step for point in history)


def assert_nothing_is_held(cluster: HandCluster) -> None:
    """No placement group is left, and every CPU is free."""
    held = cluster.ask(RESOURCES.replace("\n", " "))
    assert set(held["groups"]) <= {"REMOVED"}
    assert held["free"].get("CPU") == held["total"].get("CPU")


def under_way(sweep: SweepProcess, ended: int = 1) -> None:
    """Waits until so many trials have ended."""
    sweep.wait_for(lambda: len(sweep.events("TrialEnded")) >= ended, 300)


def in_a_step(sweep: SweepProcess) -> None:
    """Waits until a trial is between its first evaluation and its last."""

    def half_way() -> bool:
        evaluated = Counter(event["trial"] for event in sweep.events("TrialEvaluated"))
        return 1 in evaluated.values()

    sweep.wait_for(half_way, 300)
