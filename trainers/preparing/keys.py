"""Where the prepared things of a request are stored: folders named by what decides their content;
no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainers.files import fingerprints
from trainers.files.json_files import read_object
from trainers.files.keyed import keyed_folder
from trainers.files.model_files import half_precision
from trainers.parts import Task
from trainers.tasks import locate
from trainers.trial.config import TrialConfig, fields_in
from trainers.trial.facts import PreparedFacts
from trainers.trial.sources import (
    ModelSource,
    PrepareRequest,
    Scores,
    TeacherText,
    WeightsDtype,
)

# What decides an evaluation: all of its section but how often it takes place, and the arithmetic.
BESIDE_EVALUATION = ("evaluations", "diagnostics_share")
EVALUATION_FIELDS = tuple(n for n in fields_in("evaluation") if n not in BESIDE_EVALUATION)
SCORES, DTYPE = "scores.json", "teacher_dtype"
NUMERIC_FIELDS = ("precision", "attention_implementation")


class Keys:
    """The folders of one request under `home/prepared`."""

    def __init__(self, request: PrepareRequest, home: Path, task: Task):
        """Reads the data files' bytes lazily, to hash them."""
        self._home = home
        self._inputs = task.input_keys(request)

    @property
    def records(self) -> str:
        """SHA-256 of what decides the records of both splits."""
        return fingerprints.of_document(self._inputs.records)

    @property
    def data_folder(self) -> Path:
        """Where the prepared data is stored."""
        return keyed_folder(self._home, "data", self._inputs.data)

    def model_folder(self, source: ModelSource, role: str) -> Path:
        """Where a teacher or student is stored that is made from a config or fitted."""
        document: dict[str, Any] = {
            "config": source.config,
            "init_seed": source.init_seed,
            **self._inputs.model,
        }
        if source.model is not None:
            document["model"] = locate.fingerprint(source, role)
        if source.fit is not None:
            document |= {"fit": source.fit.model_dump(), "data": self._inputs.data}
        return keyed_folder(self._home, f"{role}s", document)

    def text_folder(
        self, asked: TeacherText, request: PrepareRequest, found: Mapping[str, str]
    ) -> Path:
        """Returns where the data is stored whose responses are those of the prepared teacher among
        `found` (`as_computed`), as `asked`."""
        document = {
            "data": self._inputs.data,
            **{name: found[name] for name in ("teacher", DTYPE) if name in found},
            "text": asked.model_dump() | {"max_tokens": asked.longest(request)},
        }
        return keyed_folder(self._home, "data", document)

    def metrics_folder(self, found: Mapping[str, str]) -> Path:
        """Where the metrics of teacher and student's start are stored, by what is scored
        (`as_computed`)."""
        return keyed_folder(self._home, "metrics", found)

    def scores_folder(self, found: Mapping[str, str], config: TrialConfig) -> Path:
        """Where the scores of teacher and student are stored that are measured as a trial with that
        config is."""
        measured = {name: getattr(config, name) for name in (*EVALUATION_FIELDS, *NUMERIC_FIELDS)}
        return keyed_folder(self._home, "scores", {**found, "measured": measured})


def teacher_dtype(request: PrepareRequest, folder: Path) -> WeightsDtype | None:
    """Returns the dtype that the prepared teacher in `folder` computes in; None where that is the
    precision of whoever asks it. Raises `ValueError` for damaged weights."""
    return request.teacher_dtype or half_precision(folder)


def as_computed(found: Mapping[str, str], dtype: WeightsDtype | None) -> dict[str, str]:
    """Returns the fingerprints of prepared inputs with the dtype that the teacher computes in."""
    return dict(found) if dtype is None else {**found, DTYPE: dtype}


def read_scores(folder: Path) -> Scores:
    """Returns the scores in their folder. Raises `ValueError` where they are damaged."""
    return Scores.model_validate(read_object(folder / SCORES, {"teacher": dict}))


def input_fingerprints(teacher: Path, student: Path, data: PreparedFacts) -> dict[str, str]:
    """Returns the SHA-256 of each prepared input: what a trial is checked against."""
    return {
        "teacher": fingerprints.of_model(teacher),
        "student": fingerprints.of_model(student),
        **data.fingerprints,
    }
