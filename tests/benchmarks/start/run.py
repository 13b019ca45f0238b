"""From `kd-sweep run` to the end of the first trial, with all inputs prepared.

    python tests/benchmarks/start/run.py [--slots 2] [--repeats 3]

Runs the demo with small fits in a home of its own: once to prepare, then again and again. Prints
when each wait began, and CPU seconds by kind of process until the first trial ended, beside those
of `python -c "import torch, transformers, ray, mlflow"` in the same run. Linux alone: it reads
/proc.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PEER = [sys.executable, "-c", "import torch, transformers, ray, mlflow"]
SETTINGS = (
    "trials=2",
    "controls=none",
    "teacher.fit.steps=20",
    "student.fit.steps=10",
    "teacher_cache.mode=required",
)
TICKS = os.sysconf("SC_CLK_TCK")
FIRST_END = re.compile(r"trial \d+ (completed|stopped_early)")
# What the command line of a process, or the name that Ray gives it, says of its kind.
KINDS = {
    "fork_server": "fork server, and what it has just forked",
    "RayTrainWorker": "slots' workers",
    "ray::_": "preparing",
    "ray::": "other actors",
    "ray/": "Ray's own processes",
    "ray_": "Ray's own processes",
    "gcs_server": "Ray's own processes",
    "-m service": "driver",
}
POLL_S = 0.1


@dataclass
class Watched:
    """A run as it was seen. cpu_s: of each process, by its id; kinds: the last name of each."""

    root: int
    began: float
    cpu_s: dict[int, float] = field(default_factory=dict)
    kinds: dict[int, str] = field(default_factory=dict)
    lines: list[tuple[float, str]] = field(default_factory=list)
    first_end_s: float | None = None

    def look(self) -> None:
        """Notes what the run's processes have used."""
        parents: dict[int, int] = {}
        used: dict[int, float] = {}
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                try:
                    fields = (path / "stat").read_text().rpartition(")")[2].split()
                except OSError:  # it has ended
                    continue
                parents[int(path.name)] = int(fields[1])
                used[int(path.name)] = (int(fields[11]) + int(fields[12])) / TICKS
        for pid in used:
            if pid in self.cpu_s or _is_below(pid, self.root, parents):
                self.cpu_s[pid] = used[pid]
                self.kinds[pid] = _kind(pid) or self.kinds.get(pid, "other")

    def by_kind(self) -> Counter[str]:
        """Returns CPU seconds by kind of process."""
        sums: Counter[str] = Counter()
        for pid, seconds in self.cpu_s.items():
            sums[self.kinds[pid]] += seconds
        return sums


def _is_below(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid > 1 and pid != root:
        pid = parents.get(pid, 0)
    return pid == root


def _kind(pid: int) -> str | None:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return None
    return next((kind for sign, kind in KINDS.items() if sign in command), None)


def watch(command: list[str], environment: dict[str, str]) -> Watched:
    """Runs the command; returns what was seen of it until its first trial ended."""
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        seen = Watched(process.pid, time.monotonic())

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                now = time.monotonic() - seen.began
                seen.lines.append((now, line.rstrip()))
                if seen.first_end_s is None and FIRST_END.match(line):
                    seen.first_end_s = now

        reader = threading.Thread(target=read)
        reader.start()
        while process.poll() is None:
            if seen.first_end_s is None:
                seen.look()
            time.sleep(POLL_S)
        reader.join()
    if process.returncode or seen.first_end_s is None:
        raise SystemExit("\n".join(line for _, line in seen.lines))
    return seen


def peer_cpu_s() -> float:
    """Returns the CPU seconds of the imports alone."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(PEER, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def show(seen: Watched) -> None:
    """Prints the waits of one run, and what its processes used."""
    used, peer = seen.by_kind(), peer_cpu_s()
    for began, line in seen.lines:
        if line.endswith(" …") or line.startswith(("slots ready", "trial ")):
            print(f"{began:8.1f} s  {line}")
    for kind, seconds in used.most_common():
        print(f"{seconds:8.1f} CPU s  {kind}")
    total = used.total()
    print(f"first trial ended after {seen.first_end_s:.1f} s and {total:.1f} CPU s")
    print(f"the imports alone: {peer:.1f} CPU s; ratio {total / peer:.1f}\n")


def main() -> None:
    """Prepares, measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    command = [sys.executable, "-m", "service", "run", "demo", "--again"]
    for setting in (*SETTINGS, f"resources.slots={given.slots}"):
        command += ["--set", setting]
    with tempfile.TemporaryDirectory(prefix="kd-bench-") as folder:
        environment = os.environ | {"KD_SWEEP_HOME": folder, "PYTHONPATH": str(ROOT)}
        watch(command, environment)
        for _ in range(given.repeats):
            show(watch(command, environment))


if __name__ == "__main__":
    main()
