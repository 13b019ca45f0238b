"""One driver a sweep, and nothing left of a killed one. No Ray is started."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import make_sweep_plan

from service.errors import JobError
from service.slots import session
from service.slots.session import end_leftovers, sweep_lock, temporary_folder

HOLD = "import sys, time; from service.slots.session import sweep_lock; from pathlib import Path\n"
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


def test_a_ray_that_does_not_start_is_one_sentence() -> None:
    message = r"a Ray must answer at auto, but got Exception: timed out\. Does the cluster"
    with (
        pytest.raises(JobError, match=message),
        session._starting("a Ray must answer at auto", "Does the cluster still run?"),
    ):
        raise Exception("timed out.\nA long story")


def test_a_ray_that_breaks_is_one_sentence_with_the_way_on() -> None:
    import ray

    plan = make_sweep_plan()
    message = f"{plan.sweep_id}: Ray must stay up .* ActorDiedError: .*resume {plan.sweep_id}"
    with pytest.raises(JobError, match=message), session._explained(plan):
        raise ray.exceptions.ActorDiedError
    with pytest.raises(ValueError, match="ours"), session._explained(plan):
        raise ValueError("ours")
