"""What `test_added_task.py` does in a process of its own: plan a sweep of the new task, prepare its
inputs, and train with the teacher asked each time and from its cache."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training_support import Recorder

from service.spec.parse import parse_spec
from trainers import numerics
from trainers.preparing.inspection import inspect
from trainers.preparing.prepare import prepare
from trainers.tasks import table
from trainers.teachers.cache import CacheRequest
from trainers.teachers.cache_build import build, plan_cache
from trainers.training.run import check_fingerprints, run_trial
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision
from trainers.trial.sources import Prepared, PrepareRequest
from trainers.trial.trial_file import TrialFile, TrialPaths


def write_points(path: Path, count: int, seed: int) -> str:
    """Points of three classes: the largest of the first three coordinates."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, 4)).round(6)
    lines = [{"point": row.tolist(), "label": int(row[:3].argmax())} for row in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def request_in(folder: Path) -> PrepareRequest:
    """A teacher that is fitted to the points, and a smaller student that is not."""
    fit = {"steps": 120, "batch_size": 32, "learning_rate": 0.03}
    return PrepareRequest.model_validate(
        {
            "task": "points",
            "teacher": {"config": {"model_type": "points", "hidden_size": 32}, "fit": fit},
            "student": {"config": {"model_type": "points", "hidden_size": 8}},
            "data": {
                "train": write_points(folder / "train.jsonl", 200, 0),
                "validation": write_points(folder / "validation.jsonl", 60, 1),
            },
        }
    )


def trial_of(prepared: Prepared) -> TrialFile:
    """A trial over the points."""
    config = TrialConfig(task="points", steps=60, batch_size=16, learning_rate=0.03, evaluations=2)
    return TrialFile(
        config=config,
        numerics=numerics.resolve("cpu", Precision.FLOAT32, 1),
        fingerprints=prepared.fingerprints,
        paths=TrialPaths(teacher=prepared.teacher, student=prepared.student, data=prepared.data),
    )


def cached(trial: TrialFile, root: Path) -> TrialFile:
    """The same trial, with its teacher's cache built."""
    request = CacheRequest.of_trial(trial, table.task_named("points"))
    paths = trial.paths.model_copy(update={"teacher_cache": str(build(plan_cache(request, root)))})
    return trial.model_copy(update={"teacher_source": "cache:float32", "paths": paths})


def objective_of(request: PrepareRequest) -> tuple[str, str]:
    """The objective of a sweep that names only its task and inputs."""
    given = request.model_dump(include={"task", "teacher", "student"}, exclude_none=True)
    data = {"train": request.data.train, "validation": request.data.validation}
    spec = parse_spec(
        {"name": "points", "data": data, "search": {"tau": {"choice": [1, 2]}}, **given}
    )
    return spec.objective[0].metric, spec.objective[0].direction


def main(folder: str) -> dict[str, Any]:
    """Returns what was prepared, and the metrics of both trials."""
    torch.set_num_threads(1)
    work = Path(folder)
    request = request_in(work)
    prepared = prepare(request, work / "home")
    trial = trial_of(prepared)
    check_fingerprints(trial)
    trials = {"online": trial, "cached": cached(trial, work / "caches")}
    return {
        "facts": inspect(request, work / "home").model_dump(),
        "objective": objective_of(request),
        "directions": table.known_directions(),
        "start": prepared.student_metrics,
        "teacher": prepared.teacher_metrics,
        "trained": {
            name: run_trial(one, work / name, reporter=Recorder()).metrics
            for name, one in trials.items()
        },
    }
