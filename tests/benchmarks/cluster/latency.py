"""How long a user waits on a cluster: from `submit` to the first step, and after a fault.

    python tests/benchmarks/cluster/latency.py

Starts a head and two nodes of one CPU on this machine and submits two small sweeps. Of the second
it prints the seconds from the command to the first step, from SIGKILL of a worker to the next step
of its trial, and, after SIGKILL of the driver, to the next step of any trial, with the number of
steps that were done twice.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "cluster")]

import yaml  # noqa: E402  # path above
from fakes import REAL, make_document  # noqa: E402  # path above
from hand_cluster import HandCluster, running_cluster  # noqa: E402  # path above
from mlflow import MlflowClient  # noqa: E402  # path above

MODEL = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 160}
WAIT_S = 240.0
SILENCE_S = 5.0  # longer than an evaluation, shorter than any new start
Steps = dict[int, list[tuple[float, int]]]


def document(name: str, steps: int) -> dict[str, Any]:
    """A sweep of four trials of `steps` steps."""
    models = {"teacher": {"config": MODEL}, "student": {"config": MODEL}}
    return make_document(**REAL | models, name=name, training={"steps": steps, "batch_size": 8})


class User:
    """Someone who works with `kd-sweep` on the cluster."""

    def __init__(self, cluster: HandCluster, folder: Path) -> None:
        self._folder = folder
        self._uri = f"sqlite:///{folder}/home/mlflow.db"
        self._environment = (
            os.environ
            | cluster.environment
            | {"KD_SWEEP_HOME": f"{folder}/home", "KD_SWEEP_ADDRESS": cluster.dashboard}
        )

    def __call__(self, *words: str) -> Any:
        """Returns what the command prints as JSON."""
        done = subprocess.run(
            [str(Path(sys.executable).parent / "kd-sweep"), *words, "--json"],
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    def submit(self, name: str, steps: int) -> str:
        """Returns the id of the sweep that it hands over."""
        path = self._folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document(name, steps)))
        return str(self("submit", str(path), "--yes")["sweep_id"])

    def wait(self, sweep: str) -> None:
        """Returns when the sweep is over."""
        until(lambda: self("status", sweep)["state"] == "completed")

    def steps(self, sweep: str) -> Steps:
        """Returns of each trial the moments (s since 1970) and numbers of its steps, in order."""
        client = MlflowClient(self._uri)
        experiment = client.get_experiment_by_name("kd-sweep")
        if experiment is None:
            return {}
        found = client.search_runs(
            [experiment.experiment_id], f"tags.`kd_sweep.sweep_id` = '{sweep}'"
        )
        trials = {run.data.tags.get("kd_sweep.trial"): run.info.run_id for run in found}
        return {
            int(trial): sorted(
                (point.timestamp / 1000, point.step)
                for point in client.get_metric_history(run_id, "train/loss")
            )
            for trial, run_id in trials.items()
            if trial is not None
        }


def until(ready: Callable[[], Any]) -> Any:
    """Returns the first answer that is true."""
    end = time.monotonic() + WAIT_S
    while not (answer := ready()):
        if time.monotonic() > end:
            raise TimeoutError("the sweep is late")
        time.sleep(1)
    return answer


def after_fault(user: User, sweep: str, moment: float) -> float:
    """Returns the seconds from `moment` to the next step of a trial that fell silent about then."""

    def returned() -> float | None:
        for steps in user.steps(sweep).values():
            for (last, _), (following, _) in pairwise(steps):
                if following > moment and following - last > SILENCE_S:
                    return following - moment
        return None

    return float(until(returned))


def repeated(steps: Steps) -> dict[int, int]:
    """Returns of each trial how many steps were done more than once."""
    return {trial: len(done) - len({step for _, step in done}) for trial, done in steps.items()}


def main() -> None:
    """Measures and prints."""
    with running_cluster() as cluster, tempfile.TemporaryDirectory(prefix="kd-bench-") as folder:
        user = User(cluster, Path(folder))
        user.wait(user.submit("first", steps=20))
        began = time.time()
        sweep = user.submit("second", steps=3000)
        until(lambda: any(user.steps(sweep).values()))
        first = min(at for steps in user.steps(sweep).values() for at, _ in steps)
        print(f"submit to the first step: {first - began:.1f} s", flush=True)
        for name, words in (("worker", "ray::RayTrainWorker"), ("driver", "--child")):
            time.sleep(5)
            moment = time.time()
            assert cluster.kill_like(words), f"no {name} was left to kill"
            back = after_fault(user, sweep, moment)
            print(f"SIGKILL of a {name} to the next step of its trial: {back:.1f} s", flush=True)
        user.wait(sweep)
        print(f"steps done more than once, by trial: {repeated(user.steps(sweep))}")


if __name__ == "__main__":
    main()
