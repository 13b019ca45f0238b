"""Workers that are forked: as a new process would be, or a new process where that cannot be. No Ray
is started."""

import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.slots import forked_worker
from service.slots.forking import forking

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")

WORKER = """
import ctypes, json, os, signal, sys
getenv = ctypes.CDLL(None).getenv
getenv.restype = ctypes.c_char_p
found = {
    "arguments": sys.argv[1:],
    "folder": os.getcwd(),
    "own": os.environ.get("OWN"),
    "own_in_c": (getenv(b"OWN") or b"").decode(),
    "extra": os.environ.get("EXTRA"),
    "threads": os.environ.get("OMP_NUM_THREADS"),
    "parent": os.getppid(),
    "blocked": signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []),
}
print(json.dumps(found), flush=True)
"""
NEW = "import sys; print('new', *sys.argv[1:])"
JOB = {"RAY_JOB_ID": "01000000"}


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    """A worker's script, beside the one that Ray starts it with."""
    (tmp_path / "setup_worker.py").write_text(NEW)
    path = tmp_path / "default_worker.py"
    path.write_text(WORKER)
    return path


def start(worker: Path, *options: str, **environment: str) -> str:
    """Starts a worker as a raylet does; returns what it wrote, also after its starter has ended."""
    read, write = os.pipe()
    command = [sys.executable, forked_worker.__file__, str(worker), f"--temp-dir={worker.parent}"]
    subprocess.run(
        [*command, *options, "--language=PYTHON"],
        env={k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | environment,
        cwd="/",
        stdout=write,
        check=True,
        timeout=60,
    )
    os.close(write)
    with os.fdopen(read) as file:
        return file.read()


def test_a_forked_worker_has_its_own_streams_environment_and_folder(worker: Path) -> None:
    context = json.dumps({"env_vars": {"EXTRA": "${OWN}2"}})
    with forking(worker.parent, gc.enable) as forks:
        forks.tell(JOB, gc.enable)
        options = (f"--serialized-runtime-env-context={context}", "--node-id=n")
        found = json.loads(start(worker, *options, OWN="one", **JOB))
        again = json.loads(start(worker, OWN="two", **JOB))
    assert found["arguments"] == [f"--temp-dir={worker.parent}", "--node-id=n"]
    assert found["folder"] == "/"
    assert (found["own"], found["own_in_c"], found["extra"]) == ("one", "one", "one2")
    assert found["threads"] is None, "the server's own settings are no worker's"
    assert found["blocked"], "Ctrl-C would end workers before their driver has stopped them"
    assert (again["own"], again["extra"]) == ("two", None)
    assert found["parent"] == again["parent"] != os.getpid()


def test_who_is_not_of_this_job_and_who_wants_an_interpreter_is_a_new_process(
    worker: Path,
) -> None:
    with forking(worker.parent, gc.enable) as forks:
        forks.tell(JOB, gc.enable)
        other = start(worker, RAY_JOB_ID="02000000")
        own = json.dumps({"py_executable": "/elsewhere/python"})
        asked = start(worker, f"--serialized-runtime-env-context={own}", **JOB)
    without = start(worker, **JOB)
    for line in (other, asked, without):
        assert line.startswith(f"new {worker} ") and line.endswith(" --language=PYTHON\n")


def test_the_server_ends_with_its_starter_and_not_what_it_forked(worker: Path) -> None:
    worker.write_text(
        "import os, time; print(os.getpid(), os.getppid(), flush=True); time.sleep(2)"
    )
    script = f"""
import gc, os, sys, time
from pathlib import Path
from service.slots.forking import forking
with forking(Path({str(worker.parent)!r}), gc.enable) as forks:
    forks.tell({JOB!r}, gc.enable)
    print(flush=True)
    sys.stdin.read()
    os._exit(1)
"""
    starter = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with starter:
        assert starter.stdin is not None and starter.stdout is not None
        starter.stdout.readline()
        read, write = os.pipe()
        command = [sys.executable, forked_worker.__file__, str(worker)]
        options = [f"--temp-dir={worker.parent}", "--language=PYTHON"]
        subprocess.run(
            [*command, *options], env=os.environ | JOB, stdout=write, check=True, timeout=60
        )
        os.close(write)
        with os.fdopen(read) as file:
            forked, server = (int(number) for number in file.readline().split())
        starter.kill()
    end = time.monotonic() + 20
    while Path(f"/proc/{server}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{server}").exists()
    assert Path(f"/proc/{forked}").exists(), "Ray ends its workers, in its own order"


def test_forked_workers_draw_numbers_of_their_own() -> None:
    """Ray's ids are random numbers: two workers that drew the same would overwrite each other."""
    script = """
import os
from service.slots.local_ray import load_slots
load_slots()
import ray
for _ in range(3):
    if os.fork() == 0:
        print(ray.NodeID.from_random().hex(), flush=True)
        os._exit(0)
    os.wait()
"""
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    assert len(set(done.stdout.split())) == 3
