"""Stand-ins that several tests share: a plan of a tiny search, shared inputs that cost nothing, and
a trial that trains nothing and scores by a formula."""

import asyncio
import errno
import hashlib
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

from service.plan.estimates import InputFacts
from service.plan.plan import SweepPlan, make_plan
from service.plan.resources import Resources
from service.spec.parse import parse_spec
from trainers.trial.reporting import Leave, Outcome, Reporter, TrialResult
from trainers.trial.sources import Prepared, PrepareRequest
from trainers.trial.trial_file import TrialFile

CONFIG = {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 1}
TRAINABLE = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 160}
# The sections of a sweep whose trials train for real, in seconds.
REAL: dict[str, Any] = {
    "teacher": {"config": TRAINABLE},
    "student": {"config": TRAINABLE},
    "tokenizer": {"train": {"vocab_size": 400}},
    "data": {
        "train": "builtin:docstrings",
        "validation": "builtin:docstrings",
        "max_tokens": 128,
        "max_prompt_tokens": 96,
        "max_train_examples": 64,
        "max_validation_examples": 8,
    },
    "evaluation": {"evaluations": 4, "generation_prompts": 2, "max_new_tokens": 4},
}


def make_document(**changes: Any) -> dict[str, Any]:
    """A sweep over tau with as little around it as possible."""
    return {
        "name": "tiny",
        "teacher": {"config": CONFIG},
        "student": {"config": CONFIG},
        "tokenizer": {"train": {"vocab_size": 300}},
        "data": {"train": "builtin:docstrings", "validation": "builtin:docstrings"},
        "training": {"steps": 4},
        "evaluation": {"evaluations": 2},
        "search": {"tau": {"float": [0.5, 8], "log": True}},
        "sampler": {"kind": "random", "seed": 0},
        "early_stopping": {"kind": "none"},
        "controls": "none",
        "teacher_cache": {"mode": "online"},
        "trials": 4,
    } | changes


def make_study_document(**changes: Any) -> dict[str, Any]:
    """A study of two temperatures on two seeds with as little around it as possible; a change to
    None leaves a field out."""
    of_a_search = dict.fromkeys(("search", "sampler", "early_stopping", "trials"))
    own = {"kind": "study", "cells": [{"tau": [1, 2]}], "seeds": 2}
    document = make_document() | of_a_search | own | changes
    return {name: value for name, value in document.items() if value is not None}


def make_sweep_plan(*, cpus: float = 2, **changes: Any) -> SweepPlan:
    """The plan of `make_document(**changes)` on a machine with so many CPUs."""
    spec = parse_spec(make_document(**changes))
    return make_plan(spec, InputFacts(), Resources(num_cpus=cpus), code_version="test")


def load_nothing(task: str) -> None:
    """Of what workers load, what these fakes need: nothing."""


def prepare_nothing(
    request: PrepareRequest, home: Path, progress: Callable[[str, float], None]
) -> Prepared:
    """Shared inputs that do not exist."""
    progress("nothing", 1.0)
    return Prepared(
        teacher="/teacher",
        student="/student",
        data="/data",
        fingerprints={"data": "d", "teacher": "t", "student": "s", "tokenizer": "k"},
        vocab_size=300,
        num_train_examples=1,
        num_train_tokens=1,
        num_validation_examples=1,
        teacher_metrics={},
        student_metrics={},
    )


def score(tau: float) -> float:
    """The fake trials' final rouge_l: 40 at tau = 2, less elsewhere."""
    return 40.0 - 10.0 * math.log(tau / 2) ** 2


@dataclass(frozen=True)
class Faults:
    """What goes wrong in a fake trial, by trial number; each happens in the first attempt only, but
    for `errors` and `nan_trials`."""

    killed: tuple[int, ...] = ()
    errors: tuple[int, ...] = ()
    nan_trials: tuple[int, ...] = ()
    out_of_memory: tuple[int, ...] = ()
    error_rank: int | None = None


@dataclass(frozen=True)
class FormulaTrainer:
    """Makes fake trials of `step_s` seconds a step; `worth` is what early stopping sees on the
    way."""

    step_s: float = 0.0
    faults: Faults = field(default_factory=Faults)

    def __call__(self) -> "FormulaTrial":
        return FormulaTrial(self)


@dataclass(frozen=True)
class FaultyDisk:
    """Makes real trials. In the first attempt at `trial` the disk fails while its second checkpoint
    is written: `killed` ends the worker half-way, `full` has room for half of that one and of all
    that follow."""

    kind: str
    trial: int = 1

    def __call__(self, checkpoints: str | None = None) -> Callable[..., TrialResult]:
        from trainers.training.standing import standing_trainer

        train = standing_trainer(checkpoints=checkpoints)

        def run(trial: TrialFile, output: Path, **place: Any) -> TrialResult:
            if trial.trial != self.trial or trial.attempt > 0:
                return train(trial, output, **place)
            with patch("torch.save", self._failing()):
                return train(trial, output, **place)

        return run

    def _failing(self) -> Callable[[Any, Any], None]:
        import torch

        save, calls = torch.save, count(1)

        def failing(state: Any, file: Any) -> None:
            if next(calls) == 1:
                return save(state, file)
            file.write(b"half")
            file.flush()
            if self.kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return failing


@dataclass
class FormulaTrial:
    """Takes the place of `run_trial`."""

    trainer: FormulaTrainer

    def __call__(
        self,
        trial: TrialFile,
        output: Path,
        *,
        reporter: Reporter,
        rank: int,
        local_rank: int,
        process_group: Any,
    ) -> TrialResult:
        del local_rank
        config, final = trial.config, score(trial.config.tau or 1.0)
        assert config.steps is not None
        metrics: Mapping[str, float] = {}
        every = config.steps // config.evaluations
        for step in range(1, config.steps + 1):
            time.sleep(self.trainer.step_s)
            self._fail(trial, rank, process_group)
            if rank == 0:
                reporter.log(step, {"loss": 1.0 / step})
            if trial.trial in self.trainer.faults.nan_trials:
                return _result(Outcome.DIVERGED, {}, step, None)
            if step % every == 0:
                share = step / config.steps
                metrics = {"rouge_l": final * share, "cross_entropy": 3 - share}
                if rank == 0:
                    reporter.evaluated(step, step // every, metrics)
            reason = _agreed(reporter.reason_to_leave() if rank == 0 else 0, process_group)
            if reason:
                return _result(Leave(reason).outcome, metrics, step, None)
        if rank == 0:
            with (output / "finished").open("a") as file:
                file.write(f"{trial.attempt}\n")
        sha256 = hashlib.sha256(config.model_dump_json().encode()).hexdigest()
        return _result(Outcome.COMPLETED, dict(metrics), config.steps, sha256)

    def _fail(self, trial: TrialFile, rank: int, process_group: Any) -> None:
        faults, number = self.trainer.faults, trial.trial
        first = trial.attempt == 0
        if number in faults.killed and first:
            os.kill(os.getpid(), signal.SIGKILL)
        if number in faults.out_of_memory and first:
            raise MemoryError("no memory left")
        if number in faults.errors and faults.error_rank in (None, rank):
            raise ValueError(f"trial {number} is cursed")


def _agreed(number: int, process_group: Any) -> int:
    if process_group is None:
        return number
    import torch
    from torch import distributed as dist

    box = torch.tensor([int(number)])
    dist.broadcast(box, group_src=0, group=process_group)
    return int(box.item())


def _result(
    outcome: Outcome, metrics: Mapping[str, float], steps: int, sha256: str | None
) -> TrialResult:
    return TrialResult(
        outcome=outcome,
        metrics=dict(metrics),
        steps=steps,
        train_s=0.0,
        student=None,
        weights_sha256=sha256,
    )


@dataclass
class JobInfo:
    """A job as Ray's client shows it."""

    submission_id: str
    entrypoint: str
    metadata: dict[str, str]
    start_time: int
    status: str = "RUNNING"
    message: str = ""
    driver_exit_code: int | None = None
    runtime_env: dict[str, Any] = field(default_factory=dict)


@dataclass
class MemoryClient:
    """Takes the place of Ray's client: keeps the jobs, and what their folders held."""

    infos: list[JobInfo] = field(default_factory=list)
    shipped: list[set[str]] = field(default_factory=list)
    environment: list[dict[str, str]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=lambda: ["first", "second"])
    control: str = "SUCCEEDED"  # how the jobs end that tell a driver something
    is_quiet: bool = False  # its log stops coming, though the job has not ended

    def submit_job(
        self,
        *,
        entrypoint: str,
        submission_id: str,
        metadata: dict[str, str],
        runtime_env: dict[str, Any],
    ) -> None:
        place, number = runtime_env["working_dir"], len(self.infos)
        if not place.startswith("gcs://"):
            self.shipped.append({path.name for path in Path(place).iterdir()})
            place = f"gcs://package-{number}.zip"
        self.environment.append(runtime_env.get("env_vars", {}))
        kept = {"working_dir": place}
        self.infos.append(JobInfo(submission_id, entrypoint, metadata, number, runtime_env=kept))
        if " control " in entrypoint:
            self.infos[-1].status = self.control
            self.infos[-1].message = "log:\nerror: trial 3 must be running"
        if self.control == "SUCCEEDED" and entrypoint.endswith(" stop"):
            driver = [info for info in self.infos if " drive " in info.entrypoint][-1]
            driver.status, driver.driver_exit_code = "FAILED", 130

    def _do_request(self, method: str, path: str) -> Any:
        raise ConnectionError(f"nobody listens to {method} {path}")

    def list_jobs(self) -> list[JobInfo]:
        return list(reversed(self.infos))

    def get_job_info(self, submission_id: str) -> JobInfo:
        return next(info for info in self.infos if info.submission_id == submission_id)

    def get_job_logs(self, submission_id: str) -> str:
        return "".join(f"{line}\n" for line in self.log)

    async def tail_job_logs(self, submission_id: str) -> AsyncIterator[str]:
        text = self.get_job_logs(submission_id)
        for start in range(0, len(text), 100):  # as they come: lines are cut anywhere
            yield text[start : start + 100]
            if self.is_quiet:
                await asyncio.sleep(3600)

    def stop_job(self, submission_id: str) -> None:
        self.stopped.append(submission_id)
        self.get_job_info(submission_id).status = "STOPPED"
