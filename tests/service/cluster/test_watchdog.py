import signal
import threading
import time
from pathlib import Path

import pytest
from fakes import make_sweep_plan

from service.cluster import drive
from service.cluster.drive import exit_code
from service.cluster.job import JobOrder
from service.cluster.watchdog import Child, Watched, watch_over


@pytest.mark.parametrize("code", [0, 2, 4, 130])
def test_a_driver_that_ends_on_purpose_stays_ended(code: int) -> None:
    assert watch_over(lambda: code, 3) == Watched(code, 0)


def test_a_killed_driver_is_started_again_until_it_ends() -> None:
    codes = iter([-9, -9, 0])
    assert watch_over(lambda: next(codes), 3) == Watched(0, 2)


def test_it_is_started_again_so_often_and_no_more() -> None:
    assert watch_over(lambda: -9, 2) == Watched(-9, 2)


def test_signals_reach_the_driver() -> None:
    child = Child(["-c", "import time; time.sleep(60)"])
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(child.run()))
    thread.start()
    time.sleep(0.3)
    child.signal(signal.SIGTERM)
    thread.join(10)
    assert codes == [-signal.SIGTERM]
    child.signal(signal.SIGTERM)  # it is gone: nobody to tell


@pytest.mark.parametrize(
    ("written", "code", "expected"),
    [("cancelled", -6, 130), ("completed", 1, 0), (None, -9, -9), (None, 0, 0)],
)
def test_a_sweep_that_was_over_is_not_begun_again(
    tmp_path: Path, written: str | None, code: int, expected: int
) -> None:
    marker = tmp_path / "ended"
    if written is not None:
        marker.write_text(written)
    assert exit_code(code, marker) == expected


@pytest.mark.parametrize(("code", "told"), [(-9, "its driver was ended by signal 9"), (1, "")])
def test_whoever_is_named_is_told_of_a_driver_that_was_killed_for_good(
    code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "tell.sh"
    script.write_text(f'#!/bin/sh\nprintf %s "$KD_SWEEP_NEWS_ERROR" > {tmp_path}/told\n')
    script.chmod(0o755)
    plan = make_sweep_plan(notify={"command": str(script)})
    order = tmp_path / "order.json"
    order.write_text(JobOrder(plan=plan, max_driver_restarts=1).model_dump_json())
    monkeypatch.setattr(Child, "run", lambda child: code)
    monkeypatch.setattr(drive, "_handle", lambda act: None)
    assert drive.drive(order, lambda line: None, is_child=False) == code
    path = tmp_path / "told"
    assert (path.read_text() if path.exists() else "") == told
