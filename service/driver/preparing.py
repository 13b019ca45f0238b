"""Makes what all trials share, in a Ray task before slots take the machine."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from service.driver.shared_inputs import Prepare, SharedInputs, device, gpus_of_teacher
from service.errors import PlanError
from service.events import Preparing
from service.home import make_home
from service.plan.plan import SweepPlan
from trainers.trial.fields import Precision

CANCEL_S = 10.0


def start_preparing(plan: SweepPlan, home: Path, board: Any, prepare: Prepare) -> Any:
    """Starts the Ray task that makes what all trials share, and returns what it will answer."""
    task = ray.remote(max_retries=1)(_task).options(
        # A worker's share: where other sweeps hold the rest of the machine, slots could begin too.
        num_cpus=plan.cpus_per_worker,
        num_gpus=gpus_of_teacher(plan),
    )
    return task.remote(prepare, plan, home, board)


def finish_preparing(
    answer: Any, board: Any, *, on_event: Callable[[Preparing], None], stop: threading.Event
) -> SharedInputs | None:
    """Returns the task's answer when it is there; None when the sweep was stopped before, and the
    task still runs. Raises `PlanError` with what it raised: without it no trial can start."""
    shown = ("", 0.0)
    while not ray.wait([answer], timeout=0.5)[0]:
        progress = ray.get(board.read_progress.remote())
        if progress != shown:
            shown = progress
            on_event(Preparing(*progress))
        if stop.is_set():
            return None
    try:
        shared: SharedInputs = ray.get(answer)
    except ray.exceptions.RayTaskError as error:
        raise PlanError(f"preparing the sweep: {error.cause}") from error
    return shared


def end_tasks(tasks: list[Any]) -> None:
    """Interrupts those tasks that still run, and waits for them, `CANCEL_S` at most."""
    # Not by force: where a task ends at that very moment, Ray ends the driver. What ignores the
    # interrupt is ended when this process leaves Ray.
    for task in ray.wait(tasks, num_returns=len(tasks), timeout=0)[1]:
        ray.cancel(task)
    ray.wait(tasks, num_returns=len(tasks), timeout=CANCEL_S)


def _task(prepare: Prepare, plan: SweepPlan, home: Path, board: Any) -> SharedInputs:
    """Prepares in a Ray task, so on a machine like the slots': numerics (precision, attention,
    threads) resolve as they will there, which the driver's own machine could not tell."""
    from trainers.numerics import resolve

    make_home(home)
    os.chdir(home)  # Ray's own folder for a worker may be replaced while it runs

    def progress(stage: str, share: float) -> None:
        board.progress.remote(stage, share)  # not waited for: nothing depends on it

    threads = max(1, int(plan.cpus_per_worker))
    prepared = prepare(plan.spec.prepare_request(), home, progress)
    numerics = {each: resolve(device(plan), each, threads) for each in Precision}
    return SharedInputs(prepared, numerics)
