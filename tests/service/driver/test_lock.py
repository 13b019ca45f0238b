"""One driver a sweep."""

import fcntl
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from service.driver.lock import Holder, holder_of, sweep_lock
from service.errors import JobError
from service.plan.places import driver_lock

HOLD = "import sys, time; from service.driver.lock import sweep_lock; from pathlib import Path\n"
HOLD += "with sweep_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_a_second_driver_of_a_sweep_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "tiny-1234"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(JobError, match=rf"tiny-1234: one driver.*\"pid\": {holder.pid}"),
            sweep_lock(folder),
        ):
            pass
        assert holder_of(folder) == Holder(socket.gethostname(), holder.pid)
        holder.kill()
    assert holder_of(folder) is None, "its lock is gone, though its file is there"
    with sweep_lock(folder):
        pass


def test_who_only_asks_keeps_no_driver_out(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    with sweep_lock(folder):
        pass
    with driver_lock(folder).open("r") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.06, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        with sweep_lock(folder):
            assert holder_of(folder) is not None


def test_a_lock_that_does_not_say_whose_it_is_is_named(tmp_path: Path) -> None:
    with sweep_lock(tmp_path):
        driver_lock(tmp_path).write_text("{}")
        with pytest.raises(JobError, match=r"driver.lock: host: must be text.*by hand"):
            holder_of(tmp_path)
