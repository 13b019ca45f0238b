"""Nothing is left of a killed driver. No Ray is started."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.slots.leftovers import end_leftovers, temporary_folder


def test_leftovers_of_a_killed_driver_are_ended_with_their_folder(tmp_path: Path) -> None:
    temporary = tmp_path / "kd-left"
    temporary.mkdir()
    command = [sys.executable, "-c", "import time; time.sleep(60)", str(temporary)]
    with subprocess.Popen(command) as process:
        time.sleep(0.1)
        assert end_leftovers(temporary) == 1
        assert process.wait(10) == -9
    assert not temporary.exists()
    assert end_leftovers(temporary) == 0


def test_sockets_fit_below_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/" + "long/" * 20)
    folder = temporary_folder(tmp_path / "sweep")
    session = "session_2026-11-21_23-59-59_123456_1234567/sockets/plasma_store"
    assert len(str(folder / session)) < 107
    assert folder != temporary_folder(tmp_path / "other")
