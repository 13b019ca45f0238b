"""Makes what all trials of a sweep share, once: tokenizer, tokenised data, teacher, the students'
start.

Everything lies under `home/prepared`, in folders named by the hash of what decides their content,
so that another sweep, or the same one on another day, finds it there.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trainers.files import fingerprints, store
from trainers.preparing import locate
from trainers.preparing.inspection import Facts, inspect
from trainers.preparing.keys import Keys
from trainers.tasks.causal_lm import data as tokenised
from trainers.tasks.causal_lm import records, templates, tokenizer
from trainers.tasks.causal_lm.records import Record
from trainers.trial.config import TrialConfig
from trainers.trial.reporting import SilentReporter
from trainers.trial.sources import FitConfig, ModelSource, Prepared, PrepareRequest
from trainers.trial.trial_file import TrialFile, TrialPaths

__all__ = ["Facts", "inspect", "prepare"]
ProgressCall = Callable[[str, float], None]


def _silent(stage: str, fraction: float) -> None:
    """Drops the news."""


def prepare(request: PrepareRequest, home: Path, progress: ProgressCall = _silent) -> Prepared:
    """Returns what all trials of `request` share, made under `home` where it is not there yet.
    `progress` hears the stage and how much of it (0 to 1) is done. Raises `ValueError` when an
    input is missing or wrong."""
    return _Preparation(request, home, progress).run()


@dataclass
class _Preparation:
    request: PrepareRequest
    home: Path
    progress: ProgressCall

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.request, self.home)

    @cached_property
    def train_records(self) -> list[Record]:
        return records.read(self.request.data, "train", self.home)

    @property
    def _trust(self) -> bool:
        return self.request.teacher.trust_remote_code or self.request.student.trust_remote_code

    def run(self) -> Prepared:
        from trainers.tasks.causal_lm import models

        models.quieten()
        templates.check(self.request.data.template)
        self.progress("data", 0.0)
        tokenizer_folder = self._tokenizer()
        data = store.once(self.keys.data_folder, lambda f: self._write_data(tokenizer_folder, f))
        facts = tokenised.DataFacts.read(data)
        self.progress("data", 1.0)
        teacher = self._model(self.request.teacher, "teacher", tokenizer_folder, data)
        student = self._model(self.request.student, "student", tokenizer_folder, data)
        found = {
            "teacher": fingerprints.of_model(teacher),
            "student": fingerprints.of_model(student),
            "tokenizer": fingerprints.of_tokenizer(data / "tokenizer"),
            "data": facts.fingerprint,
        }
        metrics = self._metrics(found, teacher, student, data)
        return Prepared(
            teacher=str(teacher),
            student=str(student),
            data=str(data),
            fingerprints=found,
            vocab_size=facts.vocab_size,
            num_train_examples=facts.train.num_examples,
            num_train_tokens=facts.train.num_response_tokens,
            num_validation_examples=facts.validation.num_examples,
            teacher_metrics=metrics["teacher"],
            student_metrics=metrics["student"],
        )

    def _tokenizer(self) -> Path:
        folder = locate.tokenizer_folder(self.request)
        if folder is not None:
            return folder
        source, template = self.request.tokenizer, self.request.data.template
        assert source is not None and source.train is not None
        size = source.train.vocab_size

        def make(folder: Path) -> None:
            tokenizer.train(self.train_records, template, size, folder)

        return store.once(self.keys.tokenizer_folder, make)

    def _write_data(self, tokenizer_folder: Path, folder: Path) -> None:
        from transformers import AutoTokenizer

        loaded = AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
        lengths = tokenised.Lengths(self.request.max_prompt_tokens, self.request.max_tokens)
        written = {}
        for split in tokenised.SPLITS:
            rows = (
                self.train_records
                if split == "train"
                else records.read(self.request.data, "validation", self.home)
            )
            written[split] = tokenised.write_split(
                rows,
                folder / split,
                template=self.request.data.template,
                tokenizer=loaded,
                lengths=lengths,
            )
        loaded.save_pretrained(folder / "tokenizer")
        tokenised.DataFacts(
            vocab_size=len(loaded),
            eos_token_id=_end_token(loaded),
            pad_token_id=_padding_token(loaded),
            fingerprint=tokenised.fingerprint(folder),
            **written,
        ).write(folder)

    def _model(self, source: ModelSource, role: str, tokenizer_folder: Path, data: Path) -> Path:
        folder = None
        if source.model is not None:
            folder = locate.model_folder(source, role)
            if source.fit is None:
                return folder
        key = self.keys.model_folder(source, role)

        def make(temporary: Path) -> None:
            from trainers.tasks.causal_lm import building

            start = temporary / "start"
            if folder is None:
                building.initialise(source, role, tokenizer_folder, start)
            if source.fit is not None:
                self._fit(source.fit, role, start if folder is None else folder, data, temporary)
            _flatten(temporary)

        return store.once(key, make)

    def _fit(self, fit: FitConfig, role: str, start: Path, data: Path, temporary: Path) -> None:
        """Trains `start` on the data's labels; the result is `temporary/student`."""
        from trainers.training.run import run_trial

        trial = TrialFile(
            config=fit_config(fit, self.request),
            device=_device(),
            numerics=_numerics(fit),
            trust_remote_code=self._trust,
            paths=TrialPaths(teacher=None, student=str(start), data=str(data)),
        )
        facts = tokenised.DataFacts.read(data)
        reporter = _FitReporter(f"{role} fit", trial.config, facts, self.progress)
        result = run_trial(trial, temporary, reporter=reporter)
        if result.student is None:
            raise ValueError(
                f"{role}.fit: the loss must stay finite, but it diverged after {result.steps} "
                f"steps. Lower {role}.fit.learning_rate={fit.learning_rate}."
            )

    def _metrics(
        self, found: Mapping[str, str], teacher: Path, student: Path, data: Path
    ) -> dict[str, dict[str, float]]:
        def make(folder: Path) -> None:
            from trainers.tasks.causal_lm import building

            self.progress("teacher and start scored", 0.0)
            scored = building.score(
                teacher,
                student,
                data,
                device=_device(),
                trust=self._trust,
                teacher_gpus=self.request.teacher_gpus,
            )
            (folder / "metrics.json").write_text(json.dumps(scored, indent=2) + "\n")
            self.progress("teacher and start scored", 1.0)

        folder = store.once(self.keys.metrics_folder(found), make)
        content: dict[str, dict[str, float]] = json.loads((folder / "metrics.json").read_text())
        return content


class _FitReporter(SilentReporter):
    """Turns steps into a share of the fit."""

    def __init__(
        self, stage: str, config: TrialConfig, facts: tokenised.DataFacts, progress: ProgressCall
    ):
        from trainers.training.loop import num_steps_of

        self._stage, self._progress = stage, progress
        self._num_steps = num_steps_of(config, facts.train.num_examples)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Passes on how far the fit is."""
        self._progress(self._stage, step / self._num_steps)


def fit_config(fit: FitConfig, request: PrepareRequest) -> TrialConfig:
    """Returns the trial that a supervised fit is: hard loss only, one evaluation, no generated
    text."""
    budget = {"steps": fit.steps} if fit.steps is not None else {"epochs": fit.epochs}
    return TrialConfig(
        **budget,
        hard_weight=1.0,
        soft_weight=0.0,
        batch_size=fit.batch_size,
        learning_rate=fit.learning_rate,
        weight_decay=fit.weight_decay,
        warmup=fit.warmup,
        precision=fit.precision,
        seed=fit.seed,
        evaluations=1,
        generation_prompts=0,
        max_tokens=request.max_tokens,
        max_prompt_tokens=request.max_prompt_tokens,
    )


def _end_token(loaded: Any) -> int:
    if loaded.eos_token_id is None:
        raise ValueError(
            "tokenizer: it must have an end-of-sequence token, but this one has none. "
            "Use another one."
        )
    return int(loaded.eos_token_id)


def _padding_token(loaded: Any) -> int:
    return int(loaded.eos_token_id if loaded.pad_token_id is None else loaded.pad_token_id)


def _flatten(temporary: Path) -> None:
    """Moves the model out of its inner folder, so that the keyed folder is the model."""
    inner = temporary / "student"
    if not inner.is_dir():
        inner = temporary / "start"
    for path in inner.iterdir():
        path.replace(temporary / path.name)
    for name in ("student", "start", "checkpoints"):
        left = temporary / name
        if left.is_dir():
            import shutil

            shutil.rmtree(left)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _numerics(fit: FitConfig) -> dict[str, Any]:
    """One thread: the bits hang on their number, and small models lose more than they gain by a
    second one. A model made again on another machine must be the same model."""
    from trainers import numerics

    return numerics.resolve(_device(), fit.precision, 1)
