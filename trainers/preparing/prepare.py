"""Makes what all trials of a sweep share, once: prepared data, the teacher, the student's start.

Everything is stored under `home/prepared`, in folders named by the hash of what decides their
content, so that another sweep, or the same one on another day, finds it there.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from trainers import numerics
from trainers.batch_source import WritesText
from trainers.files import store
from trainers.files.json_files import read_object
from trainers.parts import Data, Task
from trainers.preparing.adapters import check_adapters, whole_model
from trainers.preparing.keys import (
    SCORES,
    Keys,
    as_computed,
    input_fingerprints,
    read_scores,
    teacher_dtype,
)
from trainers.preparing.scoring import score, score_as_trials, with_entropy
from trainers.preparing.teacher_text import TeacherWriting
from trainers.students.folders import is_adapter
from trainers.tasks import locate, table
from trainers.training.run import run_trial
from trainers.trial.config import TrialConfig
from trainers.trial.reporting import SilentReporter
from trainers.trial.sources import (
    CodeRole,
    FitConfig,
    Learned,
    ModelSource,
    Prepared,
    PreparedText,
    PrepareRequest,
    Role,
    Scores,
)
from trainers.trial.trial_file import TrialFile, TrialPaths, Trust

ProgressCall = Callable[[str, float], None]

METRICS = "metrics.json"
SCORING = "teacher and undistilled student scored"
WRITING = "teacher's text"


def _silent(stage: str, fraction: float) -> None:
    """Reports nothing."""


def prepare(request: PrepareRequest, home: Path, progress: ProgressCall = _silent) -> Prepared:
    """Returns what all trials of `request` share, made under `home` where it is not there yet.
    `progress` is called with the stage and how much of it (0 to 1) is done. Raises `ValueError`
    when an input is missing or wrong."""
    return _Preparation(request, home, progress).run()


@dataclass
class _Preparation:
    request: PrepareRequest
    home: Path
    progress: ProgressCall

    @cached_property
    def task(self) -> Task:
        return table.task_named(self.request.task)

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.request, self.home, self.task)

    def run(self) -> Prepared:
        self.task.check_request(self.request)
        check_adapters(self.request, self.task, self.home)
        self.progress("data", 0.0)
        data = store.once(self.keys.data_folder, self._write_data)
        facts = self.task.read_prepared(data, self.request)
        self.task.check_models(self.request, data)
        self.progress("data", 1.0)
        teacher = self._model(self.request.teacher, "teacher", data)
        student = self._model(self.request.student, "student", data)
        found = input_fingerprints(teacher, student, facts)
        models = {"teacher": teacher, "student": student, "data": data}
        dtype = teacher_dtype(self.request, teacher)
        asked = as_computed(found, dtype)
        scores = self._scores(asked, models)
        metrics = self._metrics(asked, models, scores)
        text = self._teacher_text(models, asked)
        return Prepared(
            teacher=str(teacher),
            student=str(student),
            data=str(data),
            fingerprints=found,
            teacher_dtype=dtype,
            vocab_size=facts.num_classes,
            num_train_examples=facts.num_train_examples,
            num_train_tokens=facts.num_train_learned,
            num_validation_examples=facts.num_validation_examples,
            teacher_metrics=metrics["teacher"],
            student_metrics=metrics["student"],
            scores=scores,
            teacher_text=text,
        )

    def _write_data(self, folder: Path) -> None:
        self.task.runtime().write_data(self.request, home=self.home, folder=folder)

    def _model(self, source: ModelSource, role: Role, data: Path) -> Path:
        folder = None
        if source.model is not None:
            folder = locate.model_folder(source, role)
            if source.fit is None and not is_adapter(folder):
                return folder
        key = self.keys.model_folder(source, role)

        # Everything is made in the temporary folder, the steps on the way included: one rename
        # publishes it, and a process that dies leaves nothing under the key.
        def make(temporary: Path) -> None:
            start = temporary / "start"
            if folder is None:
                opened = self._opened(data)
                self.task.runtime().initialise(source, role, data=opened, folder=start)
            elif is_adapter(folder):
                # Whole from here on, so that nothing that follows has to know.
                base = locate.base_of(folder, role, trust=source.trust_remote_code)
                self._merge(folder, base, start, role=role, data=data)
            else:
                start = folder
            if source.fit is not None:
                self._fit(source.fit, role, start, data, temporary)
            _flatten(temporary)

        return store.once(key, make)

    def _fit(self, fit: FitConfig, role: Role, start: Path, data: Path, temporary: Path) -> None:
        """Trains `start` on the data's labels; the result is `temporary/student`."""
        learned = data
        if fit.learn == Learned.ALL:
            self.task.runtime().write_all_learned(data, temporary / "data")
            learned = temporary / "data"
        trial = TrialFile(
            config=fit_config(fit, self.request, self.task),
            device=_device(),
            numerics=_numerics(fit),
            trust_remote_code=self._trust(role),
            paths=TrialPaths(teacher=None, student=str(start), data=str(learned)),
        )
        reporter = _FitReporter(f"{role} fit", self.progress)
        result = run_trial(trial, temporary, reporter=reporter)
        if result.student is None:
            raise ValueError(
                f"{role}.fit: the loss must stay finite, but it diverged after {result.steps} "
                f"steps. Lower {role}.fit.learning_rate={fit.learning_rate}."
            )

        if fit.adapter is not None:
            adapter = result.student.rename(temporary / "adapter")
            self._merge(adapter, start, result.student, role=role, data=data)

    def _merge(self, adapter: Path, base: Path, target: Path, *, role: Role, data: Path) -> None:
        """Writes into `target` the whole model of an adapter and its base."""
        model = whole_model(adapter, base, self.task, trust=self.request.trusts(role))
        self.task.runtime().save(model, self._opened(data), target)

    def _teacher_text(
        self, models: Mapping[str, Path], found: Mapping[str, str]
    ) -> PreparedText | None:
        asked = self.request.teacher_text
        if asked is None:
            return None
        runtime = self.task.runtime()
        # the document was refused for any other task
        assert isinstance(runtime, WritesText)
        writing = TeacherWriting(
            asked,
            self.request,
            runtime,
            teacher=models["teacher"],
            data=models["data"],
            progress=partial(self.progress, WRITING),
        )
        folder = writing.write(self.keys.text_folder(asked, self.request, found))
        facts = self.task.read_prepared(folder, self.request)
        return PreparedText(
            data=str(folder),
            fingerprint=facts.fingerprints["data"],
            num_examples=facts.num_train_examples,
            num_tokens=facts.num_train_learned,
        )

    def _opened(self, data: Path) -> Data:
        return self.task.runtime().open_data(data, trust=self.request.trusts("tokenizer"))

    def _trust(self, role: Role) -> Trust:
        """What the trial that a fit is trusts: the model is its student."""
        own: tuple[CodeRole, ...] = ("student",) if self.request.trusts(role) else ()
        return (*own, "tokenizer") if self.request.trusts("tokenizer") else own

    def _scores(self, found: Mapping[str, str], models: Mapping[str, Path]) -> Scores | None:
        config = self.request.scored_as
        if config is None:
            return None

        def make(folder: Path) -> None:
            self.progress(SCORING, 0.0)
            scores = score_as_trials(self.task, self.request, **models)
            (folder / SCORES).write_text(scores.model_dump_json(indent=2) + "\n")
            self.progress(SCORING, 1.0)

        return read_scores(store.once(self.keys.scores_folder(found, config), make))

    def _metrics(
        self, found: Mapping[str, str], models: Mapping[str, Path], scores: Scores | None
    ) -> dict[str, dict[str, float]]:
        def make(folder: Path) -> None:
            if scores is None:
                self.progress(SCORING, 0.0)
                scored = score(self.task, self.request, **models)
                self.progress(SCORING, 1.0)
            else:
                classes = self.task.read_prepared(models["data"], self.request).num_classes
                teacher = with_entropy(scores.teacher, classes)
                scored = {"teacher": teacher, "student": scores.undistilled}
            (folder / METRICS).write_text(json.dumps(scored, indent=2) + "\n")

        folder = store.once(self.keys.metrics_folder(found), make)
        return read_object(folder / METRICS, {"teacher": dict, "student": dict})


class _FitReporter(SilentReporter):
    """Reports steps as the fraction of the fit that is done."""

    def __init__(self, stage: str, progress: ProgressCall):
        self._stage, self._progress = stage, progress

    def advanced(self, step: int, num_steps: int) -> None:
        """Reports how far the fit is."""
        self._progress(self._stage, step / num_steps)


def fit_config(fit: FitConfig, request: PrepareRequest, task: Task) -> TrialConfig:
    """Returns the config of the trial that a supervised fit is: hard loss only, and one quick
    evaluation."""
    budget = {"steps": fit.steps} if fit.steps is not None else {"epochs": fit.epochs}
    return TrialConfig.model_validate(
        {
            "task": task.name,
            **budget,
            "hard_weight": 1.0,
            "soft_weight": 0.0,
            "batch_size": fit.batch_size,
            "learning_rate": fit.learning_rate,
            "weight_decay": fit.weight_decay,
            "warmup": fit.warmup,
            "precision": fit.precision,
            "seed": fit.seed,
            "optimizer": fit.optimizer,
            "schedule": fit.schedule,
            "decay": fit.decay,
            "clip_norm": fit.clip_norm,
            "evaluations": 1,
            **({} if fit.adapter is None else fit.adapter.fields()),
            **task.quick_evaluation,
            **task.data_fields(request),
        }
    )


def _flatten(temporary: Path) -> None:
    """Moves the model out of its inner folder, so that the keyed folder is the model."""
    inner = temporary / "student"
    if not inner.is_dir():
        inner = temporary / "start"
    for path in inner.iterdir():
        path.replace(temporary / path.name)
    for name in ("student", "start", "adapter", "checkpoints", "data"):
        left = temporary / name
        if left.is_dir():
            shutil.rmtree(left)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _numerics(fit: FitConfig) -> dict[str, Any]:
    """Returns the numerics of a fit."""
    # One thread: the bits depend on their number, and a model that is made again on another machine
    # must be the same model. Small models lose more than they gain by a second one.
    return numerics.resolve(_device(), fit.precision, 1)
