"""A sweep over images as a user runs it: the same command line, record and rerun as for texts."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_support import answer_of, run_module

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SPEC: dict[str, Any] = {
    "name": "few-digits",
    "task": "image_classification",
    "teacher": {
        "config": {"model_type": "convnet", "architecture": "small_resnet", "width": 8},
        "fit": {"epochs": 4, "batch_size": 32, "learning_rate": 3e-3},
    },
    "student": {"config": {"model_type": "convnet", "architecture": "small_cnn", "width": 4}},
    "data": {
        "train": "builtin:digits",
        "validation": "builtin:digits",
        "max_train_examples": 300,
        "augmentation": "crop",
        "views": 2,
    },
    "training": {"epochs": 4, "batch_size": 32, "learning_rate": 1e-2},
    "search": {
        "divergence": {"choice": ["forward_kl", "refined", "correlation"]},
        "tau": {"float": [1, 4], "log": True},
    },
    "sampler": {"kind": "tpe", "seed": 0},
    "early_stopping": {"kind": "none"},
    "trials": 3,
    "resources": {"slots": min(2, os.cpu_count() or 1)},
}


def test_a_sweep_over_digits_is_recorded_exported_and_rerun(tmp_path: Path) -> None:
    home, spec = tmp_path / "home", tmp_path / "digits.yaml"
    spec.write_text(yaml.safe_dump(SPEC))
    told = run_module(home, "service", "run", str(spec))
    assert "rouge" not in told

    rows = answer_of(home, "trials", "latest")
    assert sorted(row["trial"] for row in rows) == list(range(7))
    assert {row["state"] for row in rows} == {"completed"}
    assert all(row["objective"] == row["metrics"]["top1"] for row in rows)
    plan = json.loads(run_module(home, "service", "plan", str(spec), "--json"))
    assert plan["teacher"]["source"] == "cache:float32"

    run_module(home, "service", "export", "latest/4", str(tmp_path / "exported"))
    again = answer_of(home, "rerun", "latest/4", "--local")
    assert again["verdict"] == "reproduced"


def test_a_sweep_over_digits_goes_on_after_its_driver_was_killed(tmp_path: Path) -> None:
    home, spec = tmp_path / "home", tmp_path / "digits.yaml"
    spec.write_text(yaml.safe_dump(SPEC | {"training": SPEC["training"] | {"epochs": 12}}))
    killed_in_the_middle(home, spec)
    before = trials(home)
    ended = [row for row in before if row["state"] == "completed"]
    taken_up = [row["trial"] for row in before if row["state"] != "completed"]
    assert ended and taken_up

    run_module(home, "service", "resume", "latest")
    after = trials(home)
    assert [row["state"] for row in after] == ["completed"] * 7
    for one in ended:
        assert_nothing_was_lost(one, after[one["trial"]])
    attempts = {row["trial"]: row["attempt"] for row in after}
    assert [attempts[number] for number in taken_up] == [1] * len(taken_up)
    again = answer_of(home, "rerun", f"latest/{taken_up[0]}", "--local")
    assert again["verdict"] == "reproduced"


def assert_nothing_was_lost(before: dict[str, Any], after: dict[str, Any]) -> None:
    """A trial's metrics follow its end from a thread of their own: those that waited in the spool
    when the driver was killed are there after `resume`, and none that was there has changed."""
    assert after["metrics"]["top1"] == after["objective"]
    assert before == after | {"metrics": before["metrics"]}
    assert before["metrics"].items() <= after["metrics"].items()


def trials(home: Path) -> list[dict[str, Any]]:
    """The recorded trials by number."""
    rows = answer_of(home, "trials", "latest")
    return sorted(rows, key=lambda row: int(row["trial"]))


def killed_in_the_middle(home: Path, spec: Path) -> None:
    """Runs the sweep until a trial has ended and another one trains; then SIGKILLs its driver."""
    driver = subprocess.Popen(
        [sys.executable, "-m", "service", "run", str(spec)],
        env=os.environ | {"KD_SWEEP_HOME": str(home)},
        stdout=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 300
        while not trains_after_another(home):
            assert driver.poll() is None and time.monotonic() < end, "it ended, or is late"
            time.sleep(0.02)
    finally:
        driver.kill()
        driver.wait()


def trains_after_another(home: Path) -> bool:
    logs = list(home.glob("sweeps/*/logs/1.log"))
    events = logs[0].read_text().splitlines() if logs else []
    ends = [number for number, line in enumerate(events) if '"TrialEnded"' in line]
    return bool(ends) and any('"TrialStarted"' in line for line in events[ends[0] :])
