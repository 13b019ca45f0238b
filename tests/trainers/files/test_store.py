"""Keyed folders: made once, by one process, whole or not at all."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from trainers.files import store


def slow(folder: Path) -> None:
    with (folder.parent / "made").open("a") as file:
        file.write(f"{os.getpid()}\n")
    (folder / "first").write_text("1")
    time.sleep(0.5)
    (folder / "second").write_text("2")


def want(target: Path) -> None:
    store.once(target, slow)


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    calls = []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "content").write_text("x")

    for _ in range(2):
        assert store.once(tmp_path / "key", make) == tmp_path / "key"
    assert len(calls) == 1
    assert (tmp_path / "key" / "content").read_text() == "x"


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.once(tmp_path / "key", make)
    assert [path.name for path in tmp_path.iterdir()] == [".key.lock"]


def test_two_processes_that_want_the_same_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=want, args=(tmp_path / "key",)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len((tmp_path / "made").read_text().splitlines()) == 1
    assert sorted(path.name for path in (tmp_path / "key").iterdir()) == ["first", "second"]


def test_what_a_killed_maker_left_is_removed_and_made_again(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=want, args=(tmp_path / "key",))
    worker.start()
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".key.*.tmp/first")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(60)
    assert not (tmp_path / "key").exists()
    store.once(tmp_path / "key", slow)
    assert sorted(path.name for path in (tmp_path / "key").iterdir()) == ["first", "second"]
    assert not list(tmp_path.glob(".key.*.tmp"))
