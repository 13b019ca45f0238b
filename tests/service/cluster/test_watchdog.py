import signal
import threading
import time
from pathlib import Path

import pytest

from service.cluster.drive import exit_code
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
