"""Checkpoints are whole or absent, damaged ones are passed over by name, and few are kept."""

import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from trainers import checkpoints
from trainers.checkpoints import Checkpoints

CPU = torch.device("cpu")


def write(folder: Path, scores: dict[int, float]) -> Checkpoints:
    made = Checkpoints(folder)
    for step, score in scores.items():
        made.write(step, {"step": step, "weights": torch.full((3,), float(step))}, score=score)
    return made


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_is_read_back(tmp_path: Path) -> None:
    state = write(tmp_path, {5: 1.0, 10: 2.0}).read_last(CPU)
    assert state is not None
    assert state["step"] == 10 and state["weights"].tolist() == [10.0, 10.0, 10.0]


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none").read_last(CPU) is None


def test_the_last_two_and_the_best_are_kept(tmp_path: Path) -> None:
    write(tmp_path, {1: 3.0, 2: 1.0, 3: 2.0, 4: 4.0, 5: 5.0})
    assert kept(tmp_path) == ["step-00000002", "step-00000004", "step-00000005"]


@pytest.mark.parametrize("damage", ["flip", "cut", "no check"])
def test_a_damaged_one_is_named_and_the_one_before_it_used(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = write(tmp_path, {1: 3.0, 2: 2.0})
    newest = tmp_path / "step-00000002"
    content = (newest / "state.pt").read_bytes()
    if damage == "flip":
        middle = len(content) // 2
        flipped = bytes([content[middle] ^ 1])
        (newest / "state.pt").write_bytes(content[:middle] + flipped + content[middle + 1 :])
    elif damage == "cut":
        (newest / "state.pt").write_bytes(content[:100])
    else:
        (newest / "check.json").unlink()
    with caplog.at_level(logging.WARNING):
        state = made.read_last(CPU)
    assert state is not None and state["step"] == 1
    assert "step-00000002 is damaged" in caplog.text


def test_what_a_killed_writer_left_is_no_checkpoint(tmp_path: Path) -> None:
    made = write(tmp_path, {1: 3.0})
    left = tmp_path / ".step-00000002.123.tmp"
    left.mkdir()
    (left / "state.pt").write_bytes(b"half")
    state = made.read_last(CPU)
    assert state is not None and state["step"] == 1


def test_discarding_leaves_nothing(tmp_path: Path) -> None:
    made = write(tmp_path / "checkpoints", {1: 3.0})
    made.discard()
    assert not (tmp_path / "checkpoints").exists()
    made.discard()


def test_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    torch.manual_seed(1)
    np.random.seed(2)
    random.seed(3)
    made = Checkpoints(tmp_path)
    made.write(1, {"random": [checkpoints.random_state(CPU)]}, score=0.0)
    drawn = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())
    state = made.read_last(CPU)
    assert state is not None
    checkpoints.restore_random_state(state["random"][0], CPU)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()) == drawn
