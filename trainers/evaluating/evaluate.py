"""Measures a finished student on evaluation sets, by its trial's evaluation and arithmetic, but
more thoroughly. Neither a cluster nor a record is known here."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from trainers import numerics as numerics_of
from trainers.evaluating.harness import score_task
from trainers.evaluating.temperatures import TemperatureEvaluator
from trainers.files.fingerprints import of_document
from trainers.parts import Data, Evaluator, Network, SignalMaker, Task
from trainers.students.folders import is_adapter
from trainers.tasks import table
from trainers.teachers.online import OnlineTeacher
from trainers.training.run import write_evaluation
from trainers.training.student import StudentWithLoss
from trainers.trial.config import TrialConfig, fields_in
from trainers.trial.facts import SetFacts
from trainers.trial.metrics import OF_THE_LOSS
from trainers.trial.reporting import Evaluation
from trainers.trial.sources import CodeRole, DataSource
from trainers.trial.trial_file import TrialFile
from trainers.world import World

OF_A_TRIAL = (*fields_in("evaluation"), "max_tokens", "max_prompt_tokens", "precision")
OF_A_TRIAL += ("attention_implementation",)


@dataclass(frozen=True)
class SetScores:
    """What a student scores on one evaluation set, and what is known of the set."""

    facts: SetFacts
    metrics: dict[str, float]


@dataclass(frozen=True)
class FinishedStudent:
    """A trial's student in `folder`. fields: of the section `evaluation`, over the task's own for
    finished students (`Task.thorough_evaluation`). at_temperatures: whether answers are sampled at
    temperatures that were chosen on the validation split, too.

    The trial's data is read for its tokenizer or classes; where its teacher is not here any more,
    what compares the student with it is not measured.
    """

    trial: TrialFile
    folder: Path
    fields: Mapping[str, Any]
    at_temperatures: bool = False

    @property
    def has_teacher(self) -> bool:
        """Whether the trial has a teacher that is on this machine."""
        return self.trial.paths.teacher is not None and Path(self.trial.paths.teacher).is_dir()

    def score(self, source: DataSource, output: Path) -> SetScores:
        """Returns the student's scores on the set that `source.validation` names; writes its
        answers and the scores of its examples into the folder `output`. Raises `ValueError` for a
        set that is missing, of another task or without labels, and for a student that does not fit
        the trial's data."""
        output.mkdir(parents=True, exist_ok=True)
        data, facts = self._task.runtime().evaluation_set(
            source, like=self._data, config=self._config, folder=output / "data"
        )
        evaluator = self._evaluator(data)
        evaluation = evaluator.evaluate(self._student, {})
        write_evaluation(evaluation, output)
        metrics = {n: v for n, v in evaluation.metrics.items() if n not in OF_THE_LOSS}
        if isinstance(evaluator, TemperatureEvaluator):
            metrics |= evaluator.at_temperatures(self._student, self._temperatures)
        return SetScores(facts, metrics)

    def harness(self, name: str, include: Path | None, output: Path) -> SetScores:
        """Returns the student's scores on a task of lm-evaluation-harness, or of the folder
        `include`; writes its answers into the folder `output`. Raises `ValueError` as
        `score_task`."""
        trust = self.trial.trusts("student")
        found = score_task(name, self.folder, include=include, device=self._device, trust=trust)
        output.mkdir(parents=True, exist_ok=True)
        write_evaluation(Evaluation(found.metrics, found.samples), output)
        facts = SetFacts(
            num_examples=found.num_examples,
            in_train=0,
            in_validation=0,
            fingerprint=of_document(found.samples),
        )
        return SetScores(facts, found.metrics)

    @cached_property
    def _task(self) -> Task:
        return table.task_named(self.trial.config.task)

    @cached_property
    def _config(self) -> TrialConfig:
        """The trial's evaluation without its loss, which may be one of the user's own."""
        own = self.trial.config.model_dump(include=set(OF_A_TRIAL), exclude_none=True)
        thorough = self._task.thorough_evaluation
        return TrialConfig.model_validate(
            {"task": self._task.name, **own, **thorough, **self.fields}
        )

    @cached_property
    def _data(self) -> Data:
        folder = Path(self.trial.paths.data)
        return self._task.runtime().open_data(folder, trust=self.trial.trusts("tokenizer"))

    @cached_property
    def _numerics(self) -> dict[str, Any]:
        is_here = self._device == self.trial.device
        given = self.trial.numerics if is_here else {}
        found = numerics_of.completed(given, self._device, self._config.precision)
        numerics_of.apply(found)
        return found

    @property
    def _device(self) -> str:
        return "cuda" if self.trial.device == "cuda" and torch.cuda.is_available() else "cpu"

    @cached_property
    def _student(self) -> StudentWithLoss:
        # The weights beside an adapter were kept as a teacher's are.
        frozen = is_adapter(self.folder)
        dtype = numerics_of.weights_dtype(self._numerics) if frozen else torch.float32
        network = self._load(self.folder, dtype, "student")
        device = torch.device(self._device)
        made = StudentWithLoss.build(network, self._config, device=device, numerics=self._numerics)
        made.eval()  # an evaluation leaves the mode as it was, and this one is never trained
        return made

    @cached_property
    def _teacher(self) -> SignalMaker | None:
        path = self.trial.paths.teacher
        if path is None or not self.has_teacher:
            return None
        dtype = numerics_of.weights_dtype(self._numerics, self.trial.teacher_dtype)
        return OnlineTeacher(self._load(Path(path), dtype, "teacher"))

    def _load(self, folder: Path, dtype: torch.dtype, role: CodeRole) -> Network:
        runtime = self._task.runtime()
        model = runtime.load_model(
            folder,
            torch.device(self._device),
            attention=self._config.attention_implementation,
            dtype=dtype,
            trust=self.trial.trusts(role),
        )
        runtime.check_model(model, self._data)
        return runtime.network(model, self._data.num_classes)

    def _evaluator(self, data: Data) -> Evaluator:
        numerics = self._numerics
        return self._task.runtime().evaluator(
            self._config,
            data,
            teacher=self._teacher,
            world=World(device=torch.device(self._device)),
            numerics=numerics,
            is_thorough=True,
        )

    @cached_property
    def _temperatures(self) -> dict[str, float]:
        """Chosen on the validation split; none where the task samples nothing."""
        evaluator = self._evaluator(self._data)
        if not self.at_temperatures or not isinstance(evaluator, TemperatureEvaluator):
            return {}
        return evaluator.temperatures(self._student)
