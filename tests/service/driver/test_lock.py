"""One driver a sweep."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.driver.lock import sweep_lock
from service.errors import JobError

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
        holder.kill()
    with sweep_lock(folder):
        pass
