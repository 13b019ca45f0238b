"""A recorded trial trained again, from its run alone, and compared with what was recorded."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from service.errors import PlanError, RerunMismatch, TrackingError, TrialError
from service.home import reruns_folder, spool_folder
from service.own_code.sources import KEPT, module_not_kept
from service.record import tags
from service.record.records import RunRecord
from service.record.run_entries import rerun_entry
from service.record.runs import Runs
from service.record.sink import now_ms
from service.record.tracking import Tracker
from service.rerun.engines import (
    KILLED,
    DockerEngine,
    Ended,
    Engine,
    LocalEngine,
    OnLine,
    docker_engine,
)
from service.rerun.verdict import Judgement, Numbers, Verdict, judge, seed_noise
from service.states import FINISHED, TrialState
from trainers.files.lines import numbered_lines
from trainers.trial.trial_file import TrialFile, TrialPaths

INPUTS = ("teacher", "student", "data", KEPT)
CACHE = "teacher_cache"
RESULT, METRICS, TRIAL, VERDICT = "result.json", "metrics.jsonl", "trial.json", "verdict.json"
OUTPUT = "out"
LOSS = "loss"
# What steps report, and speeds, are no part of a trial's result.
REPORTED_ONLY = (
    LOSS,
    "hard_loss",
    "soft_loss",
    "learning_rate",
    "gradient_norm",
    "tokens_per_s",
    "data_wait_share",
)
BAD_INPUT, DIVERGED = 2, 1


@dataclass(frozen=True)
class RerunRequest:
    """What is run again and where. mounts: name of an input (`INPUTS`) → its folder on this
    machine, where it is not the recorded one; image, device: None for the recorded ones."""

    run: str
    image: str | None = None
    local: bool = False
    device: str | None = None
    keep: bool = False
    mounts: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class RerunResult:
    """A rerun that ran to its end. recorded_s: what the trial took when it was recorded; kept: the
    folder of its files with `--keep`."""

    record: RunRecord
    run_id: str
    judgement: Judgement
    duration_s: float
    kept: Path | None = None

    @property
    def exit_code(self) -> int:
        """0, or that of `RerunMismatch` when the numbers differ."""
        differs = self.judgement.verdict is Verdict.DIFFERS
        return RerunMismatch.exit_code if differs else 0

    def to_json(self) -> dict[str, Any]:
        """Returns the rerun as one JSON object."""
        return self.judgement.to_json() | {
            "rerun_of": self.record.run_id,
            "run_id": self.run_id,
            "sweep_id": self.record.sweep_id,
            "trial": self.record.trial,
            "duration_s": self.duration_s,
            "recorded_duration_s": self.record.duration_s,
            "kept": None if self.kept is None else str(self.kept),
        }


@dataclass(frozen=True)
class _Case:
    """A trial to be run again, with all that was recorded of it."""

    record: RunRecord
    trial: TrialFile
    recorded: Numbers
    inputs: dict[str, Path]
    steps: int | None


def rerun(request: RerunRequest, runs: Runs, *, home: Path, on_line: OnLine) -> RerunResult:
    """Trains the trial again and returns the verdict; the rerun is a run of its own, tagged with
    `rerun_of`. on_line: takes each line that the trial writes.

    Raises `TrackingError` for a run that cannot be read, `PlanError` when its inputs, the image or
    Docker are missing or not what they were, `TrialError` when the trial fails.
    """
    case = _case(request, runs)
    room = reruns_folder(home) / f"{case.record.run_id[:8]}-{time.time_ns():x}"
    try:
        with closing(_engine(request, case)) as engine:
            facts = engine.facts(sorted(case.trial.versions))
            facts["device"] = request.device or case.trial.device
            room.mkdir(parents=True)
            train = partial(_train, case, engine, facts, room, on_line)
            result = _recorded_rerun(case, runs, home, train)
    finally:
        if not request.keep:
            shutil.rmtree(room, ignore_errors=True)
    return replace(result, kept=room) if request.keep else result


def _recorded_rerun(
    case: _Case, runs: Runs, home: Path, train: Callable[[], Numbers]
) -> RerunResult:
    """Trains under a run of its own, whose final state is right whatever happens."""
    tracker = Tracker(runs.uri, runs.experiment, spool=spool_folder(home, runs.uri))
    with closing(tracker):
        run_id = tracker.start_run(rerun_entry(case.record, case.trial, at_ms=now_ms()))
        started = time.monotonic()
        try:
            now = train()
        except KeyboardInterrupt:
            tracker.finish_trial(run_id, TrialState.CANCELLED)
            raise
        except Exception as error:
            tracker.finish_trial(run_id, TrialState.FAILED, error=str(error))
            raise
        duration_s = time.monotonic() - started
        noise, reason = seed_noise(case.record, runs.trials(case.record.sweep_id))
        judged = judge(case.recorded, now, tolerances=noise, tolerance_reason=reason)
        tracker.log_metrics(run_id, max(now.losses, default=0), now.metrics)
        tracker.log_text(run_id, json.dumps(judged.to_json(), indent=2) + "\n", VERDICT)
        tracker.finish_trial(run_id, TrialState.COMPLETED)
    return RerunResult(case.record, run_id, judged, duration_s)


def _case(request: RerunRequest, runs: Runs) -> _Case:
    record = runs.get(request.run)
    if record.state not in FINISHED or record.tags.get("kind") != tags.KIND_TRIAL:
        raise TrackingError(
            f"run '{request.run}': must be a finished trial of a sweep to be run again, but got a "
            f"{record.tags.get('kind')} that is {record.state}."
        )
    trial = runs.trial_file(record.run_id)
    result = _recorded_result(runs, record)
    steps = int(result["steps"]) if record.state is TrialState.STOPPED_EARLY and result else None
    metrics = result.get("metrics") or {
        name: value for name, value in record.metrics.items() if name not in REPORTED_ONLY
    }
    recorded = Numbers(
        metrics=metrics,
        weights_sha256=result.get("weights_sha256"),
        losses=dict(runs.history(record.run_id, LOSS)),
        facts=_recorded_facts(record, trial),
    )
    return _Case(record, trial, recorded, _inputs(trial, request.mounts), steps)


def _recorded_result(runs: Runs, record: RunRecord) -> dict[str, Any]:
    """Returns the trial's `result.json`, or nothing where it was not kept."""
    if not runs.has_artifact(record.run_id, RESULT):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = runs.download(record.run_id, RESULT, Path(folder))
        content: dict[str, Any] = json.loads(path.read_text())
    return content


def _recorded_facts(record: RunRecord, trial: TrialFile) -> dict[str, str]:
    facts = {name: text for name, text in record.tags.items() if name.startswith("provenance.")}
    facts |= {f"versions.{name}": text for name, text in trial.versions.items()}
    if "cpu_capability" in trial.numerics:
        facts["numerics.cpu_capability"] = str(trial.numerics["cpu_capability"])
    return facts | {"device": trial.device}


def _inputs(trial: TrialFile, mounts: Mapping[str, Path]) -> dict[str, Path]:
    """Returns where each input lies here. Raises `PlanError` for one that is not there."""
    unknown = sorted(set(mounts) - set(INPUTS))
    if unknown:
        raise PlanError(
            f"--mount: must name one of {', '.join(INPUTS)}, but got '{unknown[0]}'. "
            "Write e.g. --mount data=FOLDER."
        )
    found = {}
    for name in INPUTS:
        place = mounts.get(name) or getattr(trial.paths, name)
        if place is None:
            continue
        folder = Path(place).expanduser().resolve()
        if not folder.is_dir():
            raise PlanError(
                f"rerun: the trial's {name} must be a folder on this machine, but '{folder}' is "
                f"not there. Say where it is: --mount {name}=FOLDER."
            )
        found[name] = folder
    # A cache that is not here any more is built again from the teacher.
    cache = trial.paths.teacher_cache
    if cache is not None and Path(cache).is_dir():
        found[CACHE] = Path(cache)
    return found


def _engine(request: RerunRequest, case: _Case) -> Engine:
    if request.local:
        _check_own_module(case)
        return LocalEngine()
    image = request.image or case.record.tags.get("provenance.image")
    if not image:
        raise PlanError(
            f"rerun: the image of run '{request.run}' must be known, but the trial ran outside a "
            "container. Name an image (--image), or rerun in this environment: --local."
        )
    threads = int(case.trial.numerics.get("threads", 1)) * case.trial.world_size
    cpus = min(threads, os.cpu_count() or 1)
    gpu = (request.device or case.trial.device) == "cuda"
    made: DockerEngine = docker_engine(image, case.inputs, cpus=cpus, gpu=gpu)
    return made


def _check_own_module(case: _Case) -> None:
    """Raises `PlanError` when the trial's process would not find its own divergence."""
    module = module_not_kept(case.trial)
    if module is None or KEPT in case.inputs or find_spec(module.partition(".")[0]) is not None:
        return
    raise PlanError(
        f"rerun: module '{module}' of the trial's divergence must be installed or on PYTHONPATH "
        "where its sweep did not keep the source, but it is not there. Say where it lies: "
        f"--mount {KEPT}=FOLDER."
    )


def _train(
    case: _Case, engine: Engine, facts: Mapping[str, str], room: Path, on_line: OnLine
) -> Numbers:
    """Returns what the trial leaves. Raises `PlanError` when it refuses its inputs, `TrialError`
    when it fails.
    """
    device = facts["device"]
    numerics = case.trial.numerics | ({"device": device} if case.trial.numerics else {})
    paths = TrialPaths.model_validate({"teacher": None} | engine.paths(case.inputs))
    changed = {"paths": paths, "device": device, "numerics": numerics}
    case.trial.model_copy(update=changed).write(room / TRIAL)
    arguments = [TRIAL, "--output", OUTPUT]
    if case.steps is not None:
        arguments += ["--stop-after", str(case.steps)]
    ended = engine.train(room, arguments, workers=case.trial.world_size, on_line=on_line)
    _check_end(ended)
    return _numbers(room / OUTPUT, facts, ended)


def _check_end(ended: Ended) -> None:
    if ended.code == BAD_INPUT:
        reason = ended.last_lines.rpartition("error: ")[2]
        raise PlanError(f"rerun: refused, {reason}")
    if ended.code == KILLED or ended.code < 0:
        raise TrialError(
            f"rerun: the trial was killed from outside ({ended.code}): memory ran out, or someone "
            f"ended it.\n{ended.last_lines}"
        )
    if ended.code not in (0, DIVERGED):
        raise TrialError(f"rerun: the trial ended with {ended.code}:\n{ended.last_lines}")


def _numbers(output: Path, facts: Mapping[str, str], ended: Ended) -> Numbers:
    path = output / RESULT
    if not path.exists():
        raise TrialError(f"rerun: the trial left no {RESULT}:\n{ended.last_lines}")
    result = json.loads(path.read_text())
    losses = {}
    for _, line in numbered_lines((output / METRICS).read_bytes()):
        report = json.loads(line)
        if LOSS in report["metrics"]:
            losses[int(report["step"])] = float(report["metrics"][LOSS])
    return Numbers(result["metrics"], result["weights_sha256"], losses, facts)
