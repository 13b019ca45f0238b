"""What `test_added_field.py` does in a process of its own: plan a sweep that searches the new
field, and train with it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_support import document, make_folder, plan
from fakes import make_sweep_plan
from training_support import Recorder, request, trial

from service.spec.parse import parse_spec
from trainers.preparing.prepare import prepare
from trainers.training.run import run_trial
from trainers.trial.sources import Prepared


def searched() -> list[float]:
    """The field in all trials of a grid over it."""
    spec = parse_spec(document(search={"stretch": {"choice": [1.0, 2.0]}}))
    configs = [spec.trial_config(point) for point in spec.search.enumerate(1)]
    return [config.model_dump()["stretch"] for config in configs]


def controls() -> list[float]:
    """The field in the controls of a sweep that gives it in its training section."""
    made = make_sweep_plan(controls="default", training={"steps": 2, "stretch": 2.0})
    configs = [made.spec.trial_config(control.values) for control in made.controls]
    return [config.model_dump()["stretch"] for config in configs]


def shown(folder: Path) -> str:
    """What `kd-sweep plan` prints for a sweep that searches it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = make_folder(folder, patch)
        result = plan(folder, document(search={"stretch": {"float": [1, 4]}}))
    assert result.exit_code == 0, result.output
    return result.stdout


def train(prepared: Prepared, output: Path, **config: Any) -> dict[str, Any]:
    """The learning rates of a small trial, and the objective's metric at its end."""
    recorder = Recorder()
    run = run_trial(trial(prepared, tau=2.0, **config), output, reporter=recorder)
    rates = [recorder.steps[step]["learning_rate"] for step in sorted(recorder.steps)]
    return {"rates": rates, "end": run.metrics["cross_entropy"]}


def main(folder: str) -> dict[str, Any]:
    """Returns what is searched, shown and trained with."""
    torch.set_num_threads(1)
    work = Path(folder)
    for part in ("plan", "inputs"):
        (work / part).mkdir()
    prepared = prepare(request(work / "inputs"), work / "home")
    written = json.loads(trial(prepared, stretch=2.0).model_dump_json())
    stretches: dict[str, dict[str, Any]] = {
        "default": {},
        "1.0": {"stretch": 1.0},
        "2.0": {"stretch": 2.0},
    }
    return {
        "searched": searched(),
        "controls": controls(),
        "shown": shown(work / "plan"),
        "written": written["config"]["stretch"],
        "trained": {
            name: train(prepared, work / name, **config) for name, config in stretches.items()
        },
    }
