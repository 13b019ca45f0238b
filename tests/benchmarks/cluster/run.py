"""What many trials cost: seconds per trial, their growth, and the driver's memory.

    python tests/benchmarks/cluster/run.py [--trials 1000] [--sampler random|tpe]

One-step trials that train nothing in two slots of one CPU, with the study, MLflow and all files as
in any sweep. Prints the mean of all trials after the first, of the first and the last hundred, the
ratio of the two, and the driver's resident memory at the end.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])

from fakes import FormulaTrainer, load_nothing, make_sweep_plan, prepare_nothing  # noqa: E402  # path above

from service.driver.driver import run_at  # noqa: E402  # path above
from service.driver.place import Place, Tools  # noqa: E402  # path above
from service.events import DriverEvent, TrialEnded  # noqa: E402  # path above

WINDOW = 100


def resident_mib() -> float:
    """Returns this process's resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


def measure(trials: int, sampler: str) -> list[float]:
    """Returns the moments at which the trials ended."""
    plan = make_sweep_plan(
        name=f"many-{sampler}",
        trials=trials,
        training={"steps": 1},
        evaluation={"evaluations": 1},
        resources={"slots": 2},
        sampler={"kind": sampler, "seed": 0},
    )
    ends: list[float] = []

    def on_event(event: DriverEvent) -> None:
        if isinstance(event, TrialEnded):
            ends.append(time.monotonic())

    with tempfile.TemporaryDirectory(prefix="kd-bench-") as folder:
        home = Path(folder)
        tools = Tools(prepare_nothing, FormulaTrainer(), load_nothing)
        place = Place(home, f"sqlite:///{home}/mlflow.db", None, tools)
        run_at(place, plan, on_event=on_event, stop=threading.Event())
    return ends


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--sampler", choices=("random", "tpe"), default="random")
    given = parser.parse_args()
    ends = measure(given.trials, given.sampler)
    window = min(WINDOW, (len(ends) - 1) // 2)
    mean = (ends[-1] - ends[0]) / (len(ends) - 1)
    first, last = (ends[window] - ends[0]) / window, (ends[-1] - ends[-1 - window]) / window
    print(f"{given.sampler}, {len(ends)} trials in 2 slots: {mean:.3f} s per trial")
    print(f"first {window}: {first:.3f} s, last {window}: {last:.3f} s, ratio {last / first:.2f}")
    print(f"driver: {resident_mib():.0f} MiB")


if __name__ == "__main__":
    main()
