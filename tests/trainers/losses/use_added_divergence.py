"""What `test_added_divergence.py` does in a process of its own: plan a sweep that searches the new
divergence, and train with it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from cli_support import document, make_folder, plan
from training_support import Recorder, request, trial

from service.spec.parse import parse_spec
from trainers.preparing.prepare import prepare
from trainers.training.run import run_trial
from trainers.trial.sources import Prepared


def searched(name: str) -> list[str]:
    """The divergences of all trials of a grid over two."""
    spec = parse_spec(document(search={"divergence": {"choice": ["forward_kl", name]}}))
    return [spec.trial_config(point).divergence for point in spec.search.enumerate(1)]


def shown(name: str, folder: Path) -> str:
    """What `kd-sweep plan` prints for the same sweep."""
    spec = document(search={"divergence": {"choice": ["forward_kl", name]}})
    with pytest.MonkeyPatch.context() as patch:
        result = plan(make_folder(folder, patch), spec)
    assert result.exit_code == 0, result.output
    return result.stdout


def losses(prepared: Prepared, divergence: str, output: Path) -> dict[str, Any]:
    """The first step's losses of a small trial, and the objective's metric at its end."""
    recorder = Recorder()
    run = run_trial(trial(prepared, divergence=divergence, tau=2.0), output, reporter=recorder)
    first = recorder.steps[min(recorder.steps)]
    return {
        "soft": first["soft_loss"],
        "hard": first["hard_loss"],
        "steps": run.steps,
        "end": run.metrics["cross_entropy"],
    }


def main(name: str, folder: str) -> dict[str, Any]:
    """Returns what is searched, shown and trained with."""
    torch.set_num_threads(1)
    work = Path(folder)
    for part in ("plan", "inputs"):
        (work / part).mkdir()
    prepared = prepare(request(work / "inputs"), work / "home")
    return {
        "searched": searched(name),
        "shown": shown(name, work / "plan"),
        "trained": {one: losses(prepared, one, work / one) for one in ("forward_kl", name)},
    }
