"""What all trials of a sweep share: made once in a Ray task, then named in each trial's file."""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from service.errors import PlanError
from service.events import Preparing
from service.own_code.sources import INSTALLED, KEPT
from service.plan.plan import SweepPlan
from service.plan.teacher_choice import HiddenStates
from trainers.trial.config import TrialConfig
from trainers.trial.fields import Precision
from trainers.trial.sources import Prepared, PrepareRequest
from trainers.trial.trial_file import TrialFile, TrialPaths

LIBRARIES = ("torch", "transformers", "datasets", "tokenizers", "ray", "optuna", "mlflow")
Prepare = Callable[[PrepareRequest, Path, Callable[[str, float], None]], Prepared]
CANCEL_S = 10.0


@dataclass(frozen=True)
class CachedAs:
    """A cache that trials read: source, as in `trial.json`; place: its folder or URL."""

    source: str
    place: str


@dataclass(frozen=True)
class SharedInputs:
    """The prepared folders, the numerics that each precision resolves to on the slots' machines,
    and the caches of the teacher's hidden states; where there is none, trials ask the teacher."""

    prepared: Prepared
    numerics: dict[Precision, dict[str, Any]]
    caches: Mapping[HiddenStates, CachedAs] = field(default_factory=dict)

    def trial(self, template: TrialFile, config: TrialConfig) -> TrialFile:
        """Returns `template` with `config` and what it decides: numerics, and the source of the
        teacher's signal."""
        asked = HiddenStates(config.precision, config.attention_implementation)
        changed: dict[str, Any] = {"config": config, "numerics": self.numerics[config.precision]}
        if asked in self.caches:
            cached = self.caches[asked]
            paths = template.paths.model_copy(update={"teacher_cache": cached.place})
            changed |= {"paths": paths, "teacher_source": cached.source}
        return template.model_copy(update=changed)

    def template(self, plan: SweepPlan, own_modules: str | None = None) -> TrialFile:
        """Returns what the files of all the sweep's trials have in common; own_modules: the folder
        of the plan's own modules."""
        prepared, known = self.prepared, plan.facts.fingerprints
        own = {name: known[name] for name in (KEPT, INSTALLED) if name in known}
        return TrialFile(
            sweep_id=plan.sweep_id,
            config=plan.spec.budget(),
            world_size=plan.workers_per_trial,
            device=device(plan),
            trust_remote_code=plan.trust_remote_code,
            fingerprints=prepared.fingerprints | own,
            versions={name: version(name) for name in LIBRARIES},
            paths=TrialPaths(
                teacher=prepared.teacher,
                student=prepared.student,
                data=prepared.data,
                own_modules=own_modules,
            ),
        )


def device(plan: SweepPlan) -> str:
    """Returns what the plan's workers compute on: cuda | cpu."""
    return "cuda" if plan.gpus_per_worker > 0 else "cpu"


def gpus_of_teacher(plan: SweepPlan) -> float:
    """Returns the GPUs of a task that runs the teacher: a worker's, or those it is spread over."""
    several = plan.spec.teacher_cache.gpus
    return several if several > 1 else plan.gpus_per_worker


def prepare_inputs(
    request: PrepareRequest, home: Path, progress: Callable[[str, float], None]
) -> Prepared:
    """Returns what all trials share; made in the process that calls it."""
    from trainers.preparing.prepare import prepare

    return prepare(request, home, progress)


def start_preparing(plan: SweepPlan, home: Path, board: Any, prepare: Prepare) -> Any:
    """Starts the Ray task that makes what all trials share, and returns what it will answer."""
    import ray

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
    task still runs. Raises `PlanError` with what it raised: without it no trial can begin."""
    import ray

    told = ("", 0.0)
    while not ray.wait([answer], timeout=0.5)[0]:
        progress = ray.get(board.read_progress.remote())
        if progress != told:
            told = progress
            on_event(Preparing(*progress))
        if stop.is_set():
            return None
    try:
        shared: SharedInputs = ray.get(answer)
    except ray.exceptions.RayTaskError as error:
        raise PlanError(f"preparing the sweep: {error.cause}") from error
    return shared


def end_tasks(tasks: list[Any]) -> None:
    """Interrupts those tasks that still run, and waits for them, `CANCEL_S` at most; leaving Ray
    ends what does not listen. Not by force: where a task ends at that very moment, Ray ends the
    driver."""
    import ray

    for task in ray.wait(tasks, num_returns=len(tasks), timeout=0)[1]:
        ray.cancel(task)
    ray.wait(tasks, num_returns=len(tasks), timeout=CANCEL_S)


def _task(prepare: Prepare, plan: SweepPlan, home: Path, board: Any) -> SharedInputs:
    """Runs on a machine like the slots', so that numerics resolve as they will there."""
    from trainers.numerics import resolve

    home.mkdir(parents=True, exist_ok=True)
    os.chdir(home)  # Ray's own folder for a worker may be replaced while it runs

    def progress(stage: str, share: float) -> None:
        board.progress.remote(stage, share)

    threads = max(1, int(plan.cpus_per_worker))
    prepared = prepare(plan.spec.prepare_request(), home, progress)
    numerics = {each: resolve(device(plan), each, threads) for each in Precision}
    return SharedInputs(prepared, numerics)
