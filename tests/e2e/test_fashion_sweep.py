"""The shipped sweep over Fashion-MNIST as a user runs it, made small."""

import json
from pathlib import Path

import pytest
from command_support import answer_of, run_module

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


def test_fashion_mnist_is_swept_with_few_labels(tmp_path: Path) -> None:
    if not FASHION.is_dir():
        pytest.skip(f"{FASHION} is absent")
    places = (f"data.train={FASHION}", f"data.validation={FASHION}")
    sets = [word for one in (*places, *SMALL) for word in ("--set", one)]
    run_module(tmp_path, "service", "run", "fashion-mnist", *sets)

    rows = answer_of(tmp_path, "trials", "latest")
    assert len(rows) == 2 + 4
    assert {row["state"] for row in rows} == {"completed"}
    assert all(row["hyperparameters"].get("tau", 1) in (1, 2, 4) for row in rows)
    assert min(row["metrics"]["top1"] for row in rows) > 40  # chance is 10
    steps = {row["metrics"]["tokens_per_s"] > 0 for row in rows}
    assert steps == {True}
    answer_of(tmp_path, "best", "--export", str(tmp_path / "trial.json"))
    config = json.loads((tmp_path / "trial.json").read_text())["config"]
    assert config["student_examples"] == 200
    again = answer_of(tmp_path, "rerun", "latest/4", "--local")
    assert again["verdict"] == "reproduced"
