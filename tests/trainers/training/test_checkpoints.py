"""Checkpoints are whole or absent, damaged ones are passed over by name, and few are kept."""

import io
import logging
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainers.files import shelves
from trainers.training import checkpoints
from trainers.training.checkpoints import Checkpoints

CPU = torch.device("cpu")


def write(place: Path | str, scores: dict[int, float]) -> Checkpoints:
    made = Checkpoints(place)
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


class FullDisk(io.FileIO):
    """A file on a disk that has room for 1000 bytes, whoever writes to it."""

    def write(self, data: Any) -> int:
        if self.tell() + len(memoryview(data).cast("B")) > 1000:
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_a_full_disk_costs_the_checkpoint_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    write(tmp_path, {1: 3.0})
    made = Checkpoints(tmp_path, told.append)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: FullDisk(path, mode))
        made.write(2, {"step": 2, "weights": torch.zeros(5000)}, score=1.0)
    assert kept(tmp_path) == ["step-00000001"], "nothing half-written is left"
    (text,) = told
    assert "after step 2" in text and "No space left" in text and str(tmp_path) in text
    made.write(3, {"step": 3}, score=1.0)
    state = made.read_last(CPU)
    assert state is not None and state["step"] == 3


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """An object store: its URL, and fsspec's view of it."""
    import fsspec

    system = fsspec.filesystem("memory")
    yield f"memory://{tmp_path}/trials/7", system
    system.store.clear()  # fsspec keeps it as long as the process


def test_an_object_store_keeps_the_last_two_and_the_best(store: tuple[str, Any]) -> None:
    url, system = store
    made = write(url, {1: 3.0, 2: 1.0, 3: 2.0, 4: 4.0, 5: 5.0})
    names = [path.rsplit("/", 1)[-1] for path in system.ls(url, detail=False)]
    assert sorted(names) == ["step-00000002", "step-00000004", "step-00000005"]
    state = Checkpoints(url).read_last(CPU)
    assert state is not None and state["weights"].tolist() == [5.0, 5.0, 5.0]
    made.discard()
    assert not system.exists(url)
    assert made.read_last(CPU) is None


def test_a_half_sent_checkpoint_is_named_and_the_one_before_it_used(
    store: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, system = store
    told: list[str] = []
    write(url, {1: 3.0})
    made = Checkpoints(url, told.append)
    send = type(system).put_file

    def cut(self: Any, local: str, remote: str) -> None:
        if remote.endswith("check.json"):
            raise OSError("the connection broke")
        send(self, local, remote)

    with monkeypatch.context() as patch:
        patch.setattr(type(system), "put_file", cut)
        made.write(2, {"step": 2}, score=1.0)
    state = made.read_last(CPU)
    assert state is not None and state["step"] == 1
    assert "the connection broke" in told[0] and "step-00000002 is damaged" in told[1]


@pytest.mark.parametrize("kind", ["folder", "url"])
def test_checkpoints_move_to_the_trial_that_repeats_theirs(
    tmp_path: Path, store: tuple[str, Any], kind: str
) -> None:
    old: Path | str = tmp_path / "7" if kind == "folder" else store[0]
    new: Path | str = tmp_path / "8" / "checkpoints" if kind == "folder" else f"{store[0]}8"
    shelves.move(old, new)
    assert Checkpoints(new).read_last(CPU) is None, "there was nothing to move"
    write(old, {4: 1.0})
    shelves.move(old, new)
    state = Checkpoints(new).read_last(CPU)
    assert state is not None and state["step"] == 4
    assert Checkpoints(old).read_last(CPU) is None


def test_a_folder_that_has_some_keeps_its_own(tmp_path: Path) -> None:
    old, new = tmp_path / "7", tmp_path / "8"
    write(new, {4: 1.0})
    write(old, {9: 1.0})
    shelves.move(old, new)
    state = Checkpoints(new).read_last(CPU)
    assert state is not None and state["step"] == 4


@pytest.mark.parametrize("calls", range(1, 12))
def test_a_move_in_an_object_store_that_was_broken_off_is_continued(
    store: tuple[str, Any], monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    old, system = store
    new = f"{old}8"
    write(old, {1: 1.0, 2: 3.0, 3: 2.0})
    left = calls

    def counted(done: Any) -> Any:
        def act(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError("the connection broke")
            return done(*args, **options)

        return act

    with monkeypatch.context() as patch:
        for name in ("cp_file", "rm_file"):
            patch.setattr(type(system), name, counted(getattr(type(system), name)))
        with suppress(OSError):
            shelves.move(old, new)
    shelves.move(old, new)
    names = [path.rsplit("/", 1)[-1] for path in system.ls(new, detail=False)]
    assert sorted(names) == ["step-00000001", "step-00000002", "step-00000003"]
    told: list[str] = []
    state = Checkpoints(new, told.append).read_last(CPU)
    assert state is not None and state["weights"].tolist() == [3.0, 3.0, 3.0] and not told
    assert not Checkpoints(old)._shelf.names()
