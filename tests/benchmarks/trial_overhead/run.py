"""What a trial costs beside its training: in a slot, and with a TorchTrainer of its own.

    python tests/benchmarks/trial_overhead/run.py [--trials 50] [--fresh 3]

Both sweeps run one-step trials that train nothing, one after the other in one slot of one CPU, with
the study, MLflow and all files as in any sweep. Prints seconds per trial after the first, and the
ratio.
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


def measure(trials: int, isolation: str) -> tuple[float, float]:
    """Returns seconds to the first trial's end, and seconds per trial after it."""
    plan = make_sweep_plan(
        name=f"overhead-{isolation}",
        trials=trials,
        training={"steps": 1},
        evaluation={"evaluations": 1},
        resources={"slots": 1, "isolation": isolation},
    )
    ends: list[float] = []

    def on_event(event: DriverEvent) -> None:
        if isinstance(event, TrialEnded):
            ends.append(time.monotonic())

    with tempfile.TemporaryDirectory(prefix="kd-bench-") as folder:
        home = Path(folder)
        place = Place(
            home,
            f"sqlite:///{home}/mlflow.db",
            None,
            Tools(prepare_nothing, FormulaTrainer(), load_nothing),
        )
        began = time.monotonic()
        run_at(place, plan, on_event=on_event, stop=threading.Event())
    return ends[0] - began, (ends[-1] - ends[0]) / (len(ends) - 1)


def main() -> None:
    """Measures and prints both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=50, help="trials in the slot")
    parser.add_argument("--fresh", type=int, default=3, help="trials with processes of their own")
    given = parser.parse_args()
    first, slot = measure(given.trials, "slot")
    first_fresh, fresh = measure(given.fresh, "strict")
    print(f"in a slot:            first {first:6.1f} s, then {slot:7.3f} s per trial")
    print(f"a TorchTrainer each:  first {first_fresh:6.1f} s, then {fresh:7.3f} s per trial")
    print(f"ratio: {fresh / slot:.0f}")


if __name__ == "__main__":
    main()
