"""A new task is a folder, its name and its entry in the table: with these in a copy of the packages
its inputs are prepared, its teacher is cached and its trials are trained."""

import math
from pathlib import Path

import pytest
from added_support import add_points, copy_packages, run_with

SCRIPT = Path(__file__).with_name("use_added_task.py")


def test_a_folder_a_name_and_an_entry_are_prepared_cached_and_trained(tmp_path: Path) -> None:
    packages = copy_packages(tmp_path / "packages")
    add_points(packages)
    work = tmp_path / "work"
    work.mkdir()
    seen = run_with(packages, SCRIPT, str(work))
    assert seen["facts"]["num_train_examples"] == 200
    assert seen["facts"]["teacher_parameters"] == 4 * 32 + 32 + 32 * 3 + 3
    assert 0 < seen["facts"]["teacher_entropy_share"] < 1
    assert seen["objective"] == ["accuracy", "maximize"]
    assert seen["directions"]["accuracy"] == "maximize" and "rouge_l" in seen["directions"]
    assert seen["start"]["accuracy"] < 0.7 and seen["teacher"]["accuracy"] > 0.85
    online, cached = seen["trained"]["online"], seen["trained"]["cached"]
    assert online["accuracy"] > 0.8 and online["cross_entropy"] < 0.5 * math.log(3)
    for name, value in online.items():
        assert cached[name] == pytest.approx(value, rel=1e-4), name
