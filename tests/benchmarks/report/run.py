"""Seconds and bytes of a sweep's report, beside `import mlflow` in the same rounds.

Usage: python tests/benchmarks/report/run.py [--trials N] [--rounds N]
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "benchmarks" / "commands")]

from many_trials import make_home  # noqa: E402  # path above

PEER = (sys.executable, "-c", "import mlflow")
MOST_S, MOST_MB = 10.0, 10.0


@dataclass(frozen=True)
class Taken:
    """Seconds of one process, its children's CPU included."""

    wall_s: float
    cpu_s: float


def taken(command: Sequence[str], home: Path) -> Taken:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KD_SWEEP_HOME": str(home)}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(time.monotonic() - began, cpu_s)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kd-report-") as folder:
        home, page = Path(folder) / "home", Path(folder) / "report.html"
        home.mkdir()
        make_home(home, asked.trials)
        report = (sys.executable, "-m", "service", "report", "latest", "--output", str(page))
        rounds = [(taken(PEER, home), taken(report, home)) for _ in range(asked.rounds)]
        size = page.stat().st_size / 1e6
    peers, reports = zip(*rounds, strict=True)
    wall = statistics.median(one.wall_s for one in reports)
    cpu = statistics.median(one.cpu_s for one in reports)
    peer = statistics.median(one.cpu_s for one in peers)
    print("| trials | wall s | CPU s | ÷ import mlflow | MB |\n|---|---|---|---|---|")
    print(f"| {asked.trials} | {wall:.1f} | {cpu:.2f} | {cpu / peer:.2f} | {size:.1f} |")
    print(f"bounds: {MOST_S:g} s and {MOST_MB:g} MB: {'kept' if is_kept(wall, size) else 'MISSED'}")


def is_kept(wall_s: float, size_mb: float) -> bool:
    return wall_s <= MOST_S and size_mb <= MOST_MB


if __name__ == "__main__":
    main()
