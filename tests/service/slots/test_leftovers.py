"""Nothing is left of a killed driver. No Ray is started."""

import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from service.errors import JobError
from service.slots.leftovers import end_leftovers, make_temporary, temporary_folder

SLEEPING = "import time; time.sleep(60)"


def test_leftovers_of_a_killed_driver_are_ended_with_their_folder(tmp_path: Path) -> None:
    temporary, ray = tmp_path / "kd-left", tmp_path / "packages" / "ray"
    temporary.mkdir()
    ray.mkdir(parents=True)
    (ray / "log_monitor.py").write_text(SLEEPING)
    command = [sys.executable, "-u", str(ray / "log_monitor.py"), f"--logs-dir={temporary}/logs"]
    with subprocess.Popen(command) as process:
        time.sleep(0.3)
        assert end_leftovers(temporary, ray) == 1
        assert process.wait(10) == -9
    assert not temporary.exists()
    assert end_leftovers(temporary, ray) == 0


def test_a_binary_of_rays_is_ended(tmp_path: Path) -> None:
    temporary, ray = tmp_path / "kd-left", tmp_path / "packages" / "ray"
    ray.mkdir(parents=True)
    raylet = shutil.copy2(shutil.which("tail") or "/usr/bin/tail", ray / "raylet")
    temporary.mkdir()
    (temporary / "socket").write_text("")
    with subprocess.Popen([raylet, "-f", str(temporary / "socket")]) as process:
        time.sleep(0.3)
        assert end_leftovers(temporary, ray) == 1
        assert process.wait(10) == -9


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists processes")
def test_a_process_with_a_title_of_rays_is_ended_where_it_writes_there(tmp_path: Path) -> None:
    """A worker has no folder in its title."""
    logs = tmp_path / "kd-left" / "session" / "logs"
    logs.mkdir(parents=True)
    elsewhere = tmp_path / "other.out"
    for title, output, is_ours in (
        ("ray::TrainController", logs / "worker.out", True),
        ("ray::TrainController", elsewhere, False),
        ("someone", logs / "worker.out", False),
    ):
        logs.mkdir(parents=True, exist_ok=True)
        with (
            output.open("w") as file,
            subprocess.Popen(
                [title, "-c", SLEEPING], executable=sys.executable, stdout=file
            ) as process,
        ):
            time.sleep(0.3)
            assert end_leftovers(tmp_path / "kd-left") == is_ours
            assert (process.poll() is None) is not is_ours or process.wait(10) == -9
            process.kill()


def test_who_only_reads_a_log_there_is_left_alone(tmp_path: Path) -> None:
    temporary = tmp_path / "kd-left"
    temporary.mkdir()
    (temporary / "raylet.log").write_text("x")
    log = str(temporary / "raylet.log")
    found = find_spec("ray")
    assert found is not None and found.origin is not None
    for command in (
        ["tail", "-f", log],
        [sys.executable, "-c", SLEEPING, log],
        [sys.executable, "-c", SLEEPING, f"--temp_dir={temporary}"],
        [sys.executable, "-c", SLEEPING, found.origin, log],
    ):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            time.sleep(0.3)
            assert end_leftovers(temporary) == 0
            assert process.poll() is None
            process.kill()


def test_the_folder_is_made_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "kd-0"
    make_temporary(temporary)
    assert temporary.stat().st_mode & 0o777 == 0o700
    make_temporary(temporary)
    temporary.chmod(0o777)
    with pytest.raises(JobError, match="kd-0: must be a folder of this user's alone.*drwxrwxrwx"):
        make_temporary(temporary)
    temporary.rmdir()
    temporary.symlink_to(tmp_path)
    with pytest.raises(JobError, match="must be a folder of this user's alone"):
        make_temporary(temporary)
    temporary.unlink()
    make_temporary(temporary)
    monkeypatch.setattr("os.getuid", lambda: temporary.stat().st_uid + 1)
    with pytest.raises(JobError, match="Remove it, or set TMPDIR"):
        make_temporary(temporary)


def test_sockets_fit_below_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/" + "long/" * 20)
    folder = temporary_folder(tmp_path / "sweep")
    session = "session_2026-11-21_23-59-59_123456_1234567/sockets/plasma_store"
    assert len(str(folder / session)) < 107
    assert folder != temporary_folder(tmp_path / "other")
