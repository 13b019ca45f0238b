"""The shipped sweep over Fashion-MNIST as a user runs it, made small."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FASHION = Path(__file__).resolve().parents[3] / "shared/data/vision/fashion-mnist"
SMALL = (
    "teacher.config.width=8",
    "teacher.fit.epochs=1",
    "data.max_train_examples=6000",
    "data.max_validation_examples=1000",
    "data.student_examples=200",
    "training.epochs=20",
    "sampler.kind=random",
    "trials=2",
)


def command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env=os.environ | {"KD_SWEEP_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_fashion_mnist_is_swept_with_few_labels(tmp_path: Path) -> None:
    if not FASHION.is_dir():
        pytest.skip(f"{FASHION} is absent")
    places = (f"data.train={FASHION}", f"data.validation={FASHION}")
    sets = [word for one in (*places, *SMALL) for word in ("--set", one)]
    done = command(tmp_path, "run", "fashion-mnist", *sets)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

    rows = json.loads(command(tmp_path, "trials", "latest", "--json").stdout)
    assert len(rows) == 2 + 4
    assert {row["state"] for row in rows} == {"completed"}
    assert all(row["hyperparameters"].get("tau", 1) in (1, 2, 4) for row in rows)
    assert min(row["metrics"]["top1"] for row in rows) > 40  # chance is 10
    steps = {row["metrics"]["tokens_per_s"] > 0 for row in rows}
    assert steps == {True}
    exported = command(tmp_path, "best", "--export", str(tmp_path / "trial.json"), "--json")
    assert exported.returncode == 0, exported.stderr
    config = json.loads((tmp_path / "trial.json").read_text())["config"]
    assert config["student_examples"] == 200
    again = command(tmp_path, "rerun", "latest/4", "--local", "--json")
    assert json.loads(again.stdout)["verdict"] == "reproduced"
