"""A recorded trial trained again, from its run alone, and compared with what was recorded."""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from service.errors import PlanError, RerunMismatch, TrialError
from service.home import reruns_folder
from service.own_code.sources import KEPT, module_not_kept
from service.record.records import RunRecord
from service.record.run_entries import rerun_entry
from service.record.runs import Runs
from service.record.sink import now_ms
from service.record.tracking import tracker_at
from service.rerun.engines import (
    KILLED,
    DockerEngine,
    Engine,
    LocalEngine,
    OnLine,
    ProcessEnd,
    docker_engine,
)
from service.rerun.original import LOSS, RESULT, TRIAL, Original, load_original
from service.rerun.verdict import Judgement, Numbers, Verdict, judge, seed_noise
from service.states import TrialState
from trainers.files.json_files import checked_object, parse_json, read_object
from trainers.files.lines import numbered_lines
from trainers.trial.trial_file import TrialPaths

METRICS, VERDICT = "metrics.jsonl", "verdict.json"
OUTPUT = "out"
# What `python -m trainers` returns besides 0, for inputs it refuses and for a loss that diverged.
EXIT_BAD_INPUT, EXIT_DIVERGED = 2, 1


@dataclass(frozen=True)
class RerunRequest:
    """What is run again and where. mounts: name of an input (`INPUT_NAMES`) → its folder on this
    machine, where it is not the recorded one; image, device: None for the recorded ones."""

    run: str
    image: str | None = None
    local: bool = False
    device: str | None = None
    keep: bool = False
    mounts: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class RerunResult:
    """A rerun that ran to its end. record: the trial that was run again; run_id: the rerun's own
    run; duration_s: what it took; kept: the folder of its files, None when they were removed."""

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


def rerun(request: RerunRequest, runs: Runs, *, home: Path, on_line: OnLine) -> RerunResult:
    """Trains the trial again and returns the verdict; the rerun is a run of its own, tagged with
    `rerun_of`. on_line: takes each line that the trial writes.

    Raises `TrackingError` for a run that cannot be read, `PlanError` when its inputs, the image or
    Docker are missing or not what they were, `TrialError` when the trial fails.
    """
    original = load_original(request.run, runs, request.mounts)
    folder = reruns_folder(home) / f"{original.record.run_id[:8]}-{time.time_ns():x}"
    try:
        with closing(_engine(request, original)) as engine:
            facts = engine.facts(sorted(original.trial.versions))
            facts["device"] = request.device or original.trial.device
            folder.mkdir(parents=True)
            train = partial(_train, original, engine, facts, folder, on_line)
            result = _recorded_rerun(original, runs, home, train)
    finally:
        if not request.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return replace(result, kept=folder) if request.keep else result


def _recorded_rerun(
    original: Original, runs: Runs, home: Path, train: Callable[[], Numbers]
) -> RerunResult:
    """Trains under a run of its own, whose final state is right whatever happens."""
    experiment = runs.experiment_of(original.record)
    with closing(tracker_at(runs.uri, experiment, home)) as tracker:
        run_id = tracker.start_run(rerun_entry(original.record, original.trial, at_ms=now_ms()))
        started = time.monotonic()
        try:
            numbers = train()
        except KeyboardInterrupt:
            tracker.finish_trial(run_id, TrialState.CANCELLED)
            raise
        except Exception as error:
            tracker.finish_trial(run_id, TrialState.FAILED, error=str(error))
            raise
        duration_s = time.monotonic() - started
        noise, reason = seed_noise(original.record, runs.trials(original.record.sweep_id))
        judged = judge(original.recorded, numbers, tolerances=noise, tolerance_reason=reason)
        tracker.log_metrics(run_id, max(numbers.losses, default=0), numbers.metrics)
        tracker.log_text(run_id, json.dumps(judged.to_json(), indent=2) + "\n", VERDICT)
        tracker.finish_trial(run_id, TrialState.COMPLETED)
    return RerunResult(original.record, run_id, judged, duration_s)


def _engine(request: RerunRequest, original: Original) -> Engine:
    if request.local:
        _check_own_module(original)
        return LocalEngine()
    image = request.image or original.recorded.facts.get("provenance.image")
    if not image:
        raise PlanError(
            f"rerun: the image of run '{request.run}' must be known, but the trial ran outside a "
            "container. Name an image (--image), or rerun in this environment: --local."
        )
    threads = int(original.trial.numerics.get("threads", 1)) * original.trial.world_size
    cpus = min(threads, os.cpu_count() or 1)
    gpu = (request.device or original.trial.device) == "cuda"
    made: DockerEngine = docker_engine(image, original.inputs, cpus=cpus, gpu=gpu)
    return made


def _check_own_module(original: Original) -> None:
    """Raises `PlanError` when the trial's process would not find its own divergence."""
    module = module_not_kept(original.trial)
    if module is None or KEPT in original.inputs or find_spec(module.partition(".")[0]) is not None:
        return
    raise PlanError(
        f"rerun: module '{module}' of the trial's divergence must be installed or on PYTHONPATH "
        "where its sweep did not keep the source, but it is not there. Say where it is: "
        f"--mount {KEPT}=FOLDER."
    )


def _train(
    original: Original, engine: Engine, facts: Mapping[str, str], folder: Path, on_line: OnLine
) -> Numbers:
    """Returns what the trial leaves. Raises `PlanError` when it refuses its inputs, `TrialError`
    when it fails.
    """
    device = facts["device"]
    # Everything else of the recorded numerics stays: threads and matrix precision of this machine
    # would be other arithmetic. The teacher is left out where there is none (a supervised fit).
    numerics = original.trial.numerics | ({"device": device} if original.trial.numerics else {})
    paths = TrialPaths.model_validate({"teacher": None} | engine.paths(original.inputs))
    # What it ran in is the record's: the trial does not need it, and older images refuse it.
    changed = {"paths": paths, "device": device, "numerics": numerics, "provenance": {}}
    original.trial.model_copy(update=changed).write(folder / TRIAL)
    arguments = [TRIAL, "--output", OUTPUT]
    # Early stopping is not asked again: its verdict came from trials that are not here.
    if original.steps is not None:
        arguments += ["--stop-after", str(original.steps)]
    end = engine.train(folder, arguments, workers=original.trial.world_size, on_line=on_line)
    _check_end(end)
    return _numbers(folder / OUTPUT, facts, end)


def _check_end(end: ProcessEnd) -> None:
    if end.code == EXIT_BAD_INPUT:
        reason = end.last_lines.rpartition("error: ")[2]
        raise PlanError(f"rerun: refused, {reason}")
    # Negative: a child of this process ended by a signal; 137: the same in a container.
    if end.code == KILLED or end.code < 0:
        raise TrialError(
            f"rerun: the trial was killed from outside ({end.code}): memory ran out, or someone "
            f"ended it.\n{end.last_lines}"
        )
    if end.code not in (0, EXIT_DIVERGED):
        raise TrialError(f"rerun: the trial ended with {end.code}:\n{end.last_lines}")


def _numbers(output: Path, facts: Mapping[str, str], end: ProcessEnd) -> Numbers:
    path = output / RESULT
    if not path.exists():
        raise TrialError(f"rerun: the trial left no {RESULT}:\n{end.last_lines}")
    losses = {}
    try:
        result = read_object(path, {"metrics": dict})
        for number, line in numbered_lines((output / METRICS).read_bytes()):
            place = f"{output / METRICS}: line {number}"
            report = checked_object(parse_json(line, place), place, {"metrics": dict, "step": int})
            if LOSS in report["metrics"]:
                losses[report["step"]] = float(report["metrics"][LOSS])
    except (OSError, ValueError) as error:
        raise TrialError(f"rerun: what the trial left cannot be read: {error}") from error
    return Numbers(result["metrics"], result.get("weights_sha256"), losses, facts)
