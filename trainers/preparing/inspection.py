"""Looks at what a sweep names without computing anything: what is there, what is missing; no
torch."""

from pathlib import Path
from typing import Any

from trainers.files import model_files
from trainers.files.json_files import checked_object, read_object
from trainers.parts import SPLIT_NAMES, Task
from trainers.preparing.adapters import check_adapters
from trainers.preparing.keys import (
    Keys,
    as_computed,
    input_fingerprints,
    read_scores,
    teacher_dtype,
)
from trainers.students.folders import is_adapter
from trainers.tasks import locate, table, weights
from trainers.trial.facts import CACHED_INPUTS, Activations, Facts, ModelFacts
from trainers.trial.sources import (
    BUILTIN_PREFIX,
    ROLES,
    DataSource,
    ModelSource,
    PrepareRequest,
)


def inspect(request: PrepareRequest, home: Path) -> Facts:
    """Returns what is known of `request`'s inputs. Numbers of examples and tokens are exact once
    the data was prepared under `home`. Raises `ValueError` that says exactly what is missing or
    does not fit."""
    task = table.task_named(request.task)
    task.check_request(request)
    per_rank = check_adapters(request, task, home)
    keys = Keys(request, home, task)
    described = {
        role: None
        if request.source(role).config is None
        else task.describe_model(request, role, home)
        for role in ROLES
    }
    teacher, student = (_Model(request.source(role), role, keys, described[role]) for role in ROLES)
    configs = {"teacher": teacher.config, "student": student.config}
    facts = task.inspect(request, configs, data=keys.data_folder, home=home)
    return facts.model_copy(
        update={
            "teacher_parameters": teacher.num_parameters,
            "student_parameters": student.num_parameters,
            "teacher_products": teacher.products,
            "student_products": student.products,
            "teacher_activations": teacher.activations or task.guess_activations(teacher.config),
            "student_activations": student.activations or task.guess_activations(student.config),
            "teacher_hidden_size": facts.teacher_hidden_size or teacher.hidden_size,
            "student_hidden_size": student.hidden_size,
            "adapter_per_rank": per_rank,
            "teacher_dtype": teacher.computes_in(request.teacher_dtype),
            **_measured(request, keys, task, teacher, student),
            "fingerprints": {"text": keys.records},
            "found": {"teacher": teacher.origin, "student": student.origin, **facts.found},
        }
    )


def same_split(request: PrepareRequest, evaluation_set: DataSource) -> str | None:
    """Returns the split (train | validation) of the request's data that is read from the very data
    of the set that `evaluation_set.validation` names, by its bytes or its name; None for neither.
    Raises `ValueError` for a set that is missing."""
    if evaluation_set.validation.startswith(BUILTIN_PREFIX):
        # What is built in has no third split: it is read as the validation split.
        is_same = evaluation_set.validation == request.data.validation
        return "validation" if is_same else None
    task = table.task_named(request.task)
    own = task.input_keys(request).records
    of_set = task.input_keys(request.model_copy(update={"data": evaluation_set})).records
    return next((name for name in SPLIT_NAMES if own[name] == of_set["validation"]), None)


class _Model:
    """A teacher or student as far as its description goes."""

    def __init__(self, source: ModelSource, role: str, keys: Keys, made: ModelFacts | None):
        """`made`: what the source's config makes (`Task.describe_model`), where it has one."""
        self.made = source.config is not None or source.fit is not None
        self.folder: Path | None = None
        self.is_adapter = False
        self._num_built: int | None = None
        self.products: int | None = None
        self.activations: Activations | None = None
        if source.model is not None:
            here = _is_folder(source.model)
            self.folder = locate.model_folder(source, role, with_weights=here)
            self.is_adapter = is_adapter(self.folder)
            whole = locate.whole_folder(source, role, with_weights=False)
            self.config: dict[str, Any] = locate.read_config(whole)
        else:
            assert made is not None
            self.config, self._num_built, self.products, self.activations = made
        self.made = self.made or self.is_adapter
        if self.made:
            # The key of what is made of a model of the hub is known once its weights are here.
            is_known = self.folder is None or weights.has_weights(self.folder)
            self.folder = keys.model_folder(source, role) if is_known else None
        self.origin = self._origin(source)

    def _origin(self, source: ModelSource) -> str:
        start = source.model or (
            f"a {self.config['model_type']} of {self._num_built:,} parameters made from its config"
        )
        if not self.made:
            return f"{start} ({self.folder})"
        stage = ", merged with its base" if self.is_adapter else ""
        stage += "" if source.fit is None else ", fitted"
        is_ready = self.folder is not None and self.folder.is_dir()
        where = f"ready in {self.folder}" if is_ready else "to be prepared"
        return f"{start}{stage} ({where})"

    @property
    def hidden_size(self) -> int | None:
        return locate.first_of(self.config, "hidden_size", "n_embd", "d_model")

    @property
    def num_parameters(self) -> int | None:
        if self.folder is not None and self.folder.is_dir():
            return model_files.num_parameters(self.folder)
        return self._num_built

    def computes_in(self, dtype: str | None) -> str | None:
        """The dtype of a teacher of which `dtype` is asked; None for the trials' precision, and
        while its weights are not here."""
        if dtype is not None or self.folder is None or not self.folder.is_dir():
            return dtype
        return model_files.half_precision(self.folder)


def _is_folder(name: str) -> bool:
    return Path(name).expanduser().is_dir()


def _measured(
    request: PrepareRequest, keys: Keys, task: Task, teacher: _Model, student: _Model
) -> dict[str, Any]:
    """What an earlier preparation measured: the teacher's entropy, the scores of teacher and
    undistilled student, how long an evaluation of the student takes, and the teacher's text."""
    folders = (teacher.folder, student.folder, keys.data_folder)
    if not all(folder is not None and folder.is_dir() for folder in folders):
        return {}
    assert teacher.folder is not None and student.folder is not None
    data = task.read_prepared(keys.data_folder, request)
    found = input_fingerprints(teacher.folder, student.folder, data)
    found = as_computed(found, teacher_dtype(request, teacher.folder))
    measured: dict[str, Any] = {"prepared": {name: found[name] for name in CACHED_INPUTS}}
    path = keys.metrics_folder(found) / "metrics.json"
    if path.is_file():
        metrics = read_object(path, {"teacher": dict})["teacher"]
        share = checked_object(metrics, path, {"entropy_share": float})["entropy_share"]
        measured["teacher_entropy_share"] = float(share)
    folder = None if request.scored_as is None else keys.scores_folder(found, request.scored_as)
    if folder is not None and folder.is_dir():
        scores = read_scores(folder)
        measured |= {"evaluation_s": scores.evaluation_s, "forward_s": scores.forward_s}
        measured |= {"teacher_scores": scores.teacher, "undistilled_scores": scores.undistilled}
    if request.teacher_text is not None:
        text = keys.text_folder(request.teacher_text, request, found)
        if text.is_dir():
            measured["num_teacher_tokens"] = task.read_prepared(text, request).num_train_learned
    return measured
