"""SweepSpec: the document a user writes, strict and typed.

The sections `training`, `loss`, `data` and `evaluation` inherit the fields of a trial from the
classes that `TrialConfig` is composed of, so a field has one name, type, range and default wherever
it is written.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from search_spaces.samplers import Sampler, Tpe
from search_spaces.samples import samples
from service.search.early_stopping import EarlyStopping, NoEarlyStopping, SuccessiveHalving
from service.spec.notify import Address, Notify, as_section
from service.spec.search import Search, WrittenSpace
from service.spec.study import SEED, Cells, Seeds, Tune, points_of
from service.spec.teacher_cache import TeacherCache
from trainers.files.urls import is_url
from trainers.nearest import nearest
from trainers.tasks import table
from trainers.trial import fields, sources
from trainers.trial.adapters import first_adapter
from trainers.trial.config import GROUPS, LOSS_FIELDS, TrialConfig, is_of_another_task
from trainers.trial.fields import TaskName
from trainers.trial.kinds import Cpus, Gib, Gpus, Name, Seconds, SetName, Workers, relative_name
from trainers.trial.metrics import Direction
from trainers.trial.probe import is_diagnostic
from trainers.trial.sharding import Sharding, check_sharding
from trainers.trial.sources import DataSource, PrepareRequest, TokenizerSource
from trainers.trial.strict import Strict
from trainers.trial.text_fields import Responses

MOST_TRIALS = 10**6
LONGEST_EXPERIMENT = 180  # bytes
SEARCH, STUDY = "search", "study"
# What only a study has, in its document.
OF_STUDIES = ("cells", "seeds", "tune")


class Section(Strict):
    """Fields of `TrialConfig`. Written out again it holds what was given, no defaults."""

    @model_serializer(mode="wrap")
    def _only_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = handler(self)
        return {name: value for name, value in dumped.items() if name in self.model_fields_set}


class Training(Section, fields.TrainingFields):
    """Budget, optimiser and schedule of a trial."""


class Loss(Section, fields.Loss):
    """The part of the loss that is not searched."""


class Text(Section, fields.Text):
    """Who writes the text that trials learn from."""


class Evaluation(Section, fields.Evaluation):
    """What is measured, alike in every trial."""


class Data(fields.Data, DataSource):
    """Instruction and response pairs, how long they may be, and how the teacher answers them; and
    test sets, which nothing but `kd-sweep evaluate` reads."""

    test: dict[SetName, Name] = Field(
        default_factory=dict,
        description="test sets, a name to a place: what kd-sweep evaluate reports on by default",
        exclude_if=lambda sets: not sets,
    )
    teacher_text: sources.TeacherText | None = Field(
        default=None,
        description="how it is written where trials have responses: teacher",
        exclude_if=lambda text: text is None,  # sweeps without it keep their ids
    )


class Objective(Strict):
    """What the sweep optimises: one metric, measured alike in every trial, and a direction."""

    metric: str
    direction: Direction = Field(default="maximize", description="default: the metric's own")

    @model_validator(mode="before")
    @classmethod
    def _fill_direction(cls, values: Any) -> Any:
        """The direction follows from the metric, unless it is written."""
        if not isinstance(values, dict):
            return values
        own = table.known_directions().get(str(values.get("metric")), "maximize")
        return {"direction": own} | values

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        known = list(table.known_directions())
        if is_diagnostic(metric):
            raise ValueError(
                f"must be a metric of how good a student is ({', '.join(known)}), but got "
                f"'{metric}', a diagnostic: it says what a loss does, and tau alone moves it, "
                "whether or not the student gets better"
            )
        if metric not in known:
            raise ValueError(
                f"must be one of {', '.join(known)}, but got '{metric}'.{nearest(metric, known)}"
            )
        return metric


def _as_objectives(value: Any, info: ValidationInfo) -> Any:
    """One objective may be written without a list, and the metric left to the task."""
    listed = [value] if isinstance(value, dict) else value
    if not isinstance(listed, list | tuple):
        return listed
    own = {"metric": _default_metric(info.data)}
    return [own | one if isinstance(one, dict) else one for one in listed]


def _default_metric(given: dict[str, Any]) -> str:
    """Returns the metric of the task in `given`, where a wrong task is absent: such a document is
    refused anyway, so any metric will do."""
    return table.task_named(given.get("task", TaskName.CAUSAL_LM)).default_metric


def _default_objectives(given: dict[str, Any]) -> tuple[Objective, ...]:
    return (Objective.model_validate({"metric": _default_metric(given)}),)


def _default_early_stopping(given: dict[str, Any]) -> EarlyStopping:
    """With two objectives no trial is weak as such, and the trials of a study share their budget,
    so none is stopped."""
    is_one = len(given.get("objective", (1,))) == 1
    return SuccessiveHalving() if is_one and given.get("kind") != STUDY else NoEarlyStopping()


class ResourceRequest(Strict):
    """What one trial takes, and how many run at once."""

    workers_per_trial: Workers = 1
    sharding: Sharding = Field(
        default=Sharding.DDP,
        description="of a trial's student over its workers; ddp: each has all of it; fsdp: a part "
        "of each weight, gradient and optimiser state",
    )
    cpus_per_worker: Cpus = 1
    gpus_per_worker: Annotated[
        Gpus | None, Field(description="default: 1 where the machine has a GPU, else 0")
    ] = None
    gpu_memory_gib: Annotated[
        Gib | None,
        Field(
            description="of one GPU, for the plan; default: what this machine's have. A cluster's "
            "are not asked"
        ),
    ] = None
    slots: Annotated[
        Workers | None, Field(description="trials at once; default: as many as fit")
    ] = None
    isolation: Annotated[
        Literal["slot", "strict"],
        Field(description="strict: fresh processes for each trial, about 20 s each"),
    ] = "slot"

    @model_validator(mode="after")
    def _shares_of_gpus_work(self) -> "ResourceRequest":
        gpus = self.gpus_per_worker or 0.0
        if gpus % 1 and (gpus > 1 or self.workers_per_trial > 1):
            raise ValueError(
                "gpus_per_worker: must be a whole number above 1, and with several workers a "
                f"trial, which cannot share a GPU, but got {gpus:g} with {self.workers_per_trial} "
                "worker(s). Use a whole number, or workers_per_trial: 1 with less than one GPU."
            )
        return self

    @model_validator(mode="after")
    def _there_is_something_to_shard_over(self) -> "ResourceRequest":
        check_sharding(self.sharding, num_workers=self.workers_per_trial, place="workers_per_trial")
        return self


def _experiment(name: str) -> str:
    """Artifacts are stored in a folder of this name, and what waits in one of its bytes."""
    if len(name.encode()) > LONGEST_EXPERIMENT:
        raise ValueError(f"must have at most {LONGEST_EXPERIMENT} bytes, but got {name!r:.60}")
    return relative_name(name)


class Tracking(Strict):
    """Where runs are recorded."""

    uri: Name | None = Field(
        default=None,
        description="MLflow's; default: MLFLOW_TRACKING_URI, else SQLite in the home folder",
    )
    experiment: Annotated[Name, AfterValidator(_experiment)] = "kd-sweep"


class Storage(Strict):
    """Where trials, checkpoints and the Optuna study are stored."""

    path: Name | None = Field(
        default=None,
        description="a folder, or a URL for the checkpoints (s3://bucket/prefix, any that fsspec "
        "knows) beside the home folder; default: the home folder",
    )
    study_url: Name | None = Field(
        default=None, description="a database for the Optuna study; default: a journal file"
    )

    @model_validator(mode="after")
    def _has_a_study_that_lasts(self) -> "Storage":
        if self.path and is_url(self.path) and not (self.study_url and is_url(self.study_url)):
            raise ValueError(
                "study_url: must name a database where path is a URL, since a journal needs a file "
                f"system, but got {self.study_url}. Set it: postgresql://user@host/optuna."
            )
        return self


class SweepSpec(Strict):
    """One sweep as its user describes it. `parse_spec` reads it and explains what is wrong."""

    kind: Annotated[
        Literal["search", "study"],
        Field(description="study: every cell on the same seeds, to be compared with an interval"),
    ] = "search"
    name: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="of the sweep")
    ]
    task: TaskName = TaskName.CAUSAL_LM
    teacher: sources.TeacherSource
    student: sources.StudentSource
    tokenizer: TokenizerSource | None = Field(default=None, description="default: the teacher's")
    data: Data
    training: Training = Training()
    loss: Loss = Loss()
    text: Text = Text()
    evaluation: Evaluation = Evaluation()
    search: Search = Field(
        default=WrittenSpace(domains={}, written={}), description="what may be tried, by name"
    )
    cells: Annotated[
        Cells,
        Field(description="of a study: small grids, a field with a list of values is varied"),
    ] = ()
    seeds: Annotated[
        Seeds | None, Field(description="of a study: how many, or which; default: 5")
    ] = None
    tune: Annotated[Tune | None, Field(description="of a study: a learning rate for each cell")] = (
        None
    )
    # After `task`, whose metric is the default; pydantic validates fields in this order.
    objective: Annotated[
        tuple[Objective, ...],
        BeforeValidator(_as_objectives),
        Field(
            default_factory=_default_objectives,
            min_length=1,
            max_length=2,
            description="one, or a list of two for nsgaii; default: the task's own",
        ),
    ]
    sampler: Sampler = Tpe()
    early_stopping: EarlyStopping = Field(default_factory=_default_early_stopping)
    trials: Annotated[
        int | None,
        Field(
            ge=1, le=MOST_TRIALS, description="without the controls; default 40, or the time budget"
        ),
    ] = None
    time_budget_s: Annotated[
        Seconds | None, Field(description="no trial starts after so many seconds")
    ] = None
    controls: Annotated[
        Literal["default", "none"],
        Field(description="default: hard loss only, and forward KL at tau 1, 2 and 4"),
    ] = "default"
    teacher_cache: TeacherCache = TeacherCache()
    resources: ResourceRequest = ResourceRequest()
    tracking: Tracking = Tracking()
    storage: Storage = Storage()
    notify: Annotated[
        Notify,
        BeforeValidator(as_section, json_schema_input_type=Notify | tuple[Address, ...]),
    ] = Notify()

    @model_serializer(mode="wrap")
    def _only_of_its_kind(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out what a document of its kind has not, or may leave out: a search reads, and is
        hashed, as before there were studies."""
        dumped: dict[str, Any] = handler(self)
        idle = {name for name in OF_STUDIES if not getattr(self, name)}
        idle |= set() if self.search.written else {"search"}
        idle |= set() if self.text.model_fields_set else {"text"}
        return {name: value for name, value in dumped.items() if name not in idle}

    @field_serializer("data", mode="wrap")
    def _data_of_the_task(self, data: Data, handler: SerializerFunctionWrapHandler) -> Any:
        """Leaves out the defaults of fields that only another task has."""
        dumped = handler(data)
        return {name: dumped[name] for name in dumped if not is_of_another_task(name, self.task)}

    @property
    def is_study(self) -> bool:
        """Whether it is a controlled study: no sampler, but cells on shared seeds."""
        return self.kind == STUDY

    def points(self) -> Iterator[Mapping[str, Any]]:
        """Yields hyperparameters of trials that stand for all: of a study those of each cell, else
        corners and draws of the search."""
        return points_of(self.cells, self.search) if self.is_study else samples(self.search)

    def varied_names(self) -> list[str]:
        """Returns the names that are searched, or in which a study's cells differ, in the
        document's order."""
        named = [name for grid in self.cells for name in grid]
        return list(dict.fromkeys([*named, *self.search.written]))

    def section_of(self, name: str) -> str:
        """Returns the section of the document that has a varied name; empty for any other."""
        if any(name in grid for grid in self.cells):
            return "cells"
        return "search" if name in self.search.domains else ""

    def tried_names(self) -> list[str]:
        """Returns the hyperparameters that trials have of their own."""
        tuned = () if self.tune is None else ("learning_rate",)
        return [*self.varied_names(), *tuned, *((SEED,) if self.is_study else ())]

    def given(self) -> dict[str, Any]:
        """Returns the fields of `TrialConfig` that the sections give, without their defaults; null
        is not given."""
        values: dict[str, Any] = {"task": self.task}
        for section in (self.data, self.training, self.loss, self.text, self.evaluation):
            given = section.model_fields_set & GROUPS.keys()
            values |= {name: getattr(section, name) for name in sorted(given)}
        adapter = self.student.adapter
        values |= {} if adapter is None else adapter.fields()
        return {name: value for name, value in values.items() if value is not None}

    def given_loss(self) -> set[str]:
        """Returns the names that the loss section gives."""
        return set(self.loss.model_fields_set)

    def budget(self) -> TrialConfig:
        """Returns a trial of this spec as far as the budget goes: its loss is the default one."""
        given = {name: value for name, value in self.given().items() if name not in LOSS_FIELDS}
        return TrialConfig.model_validate(given)

    def trial_config(self, values: Mapping[str, Any]) -> TrialConfig:
        """Returns the config of a trial: hyperparameters `values` over the sections' fields.
        Raises `ValueError` (pydantic's) naming the field and the rule."""
        return TrialConfig.model_validate(self.given() | dict(values))

    @property
    def teacher_text(self) -> sources.TeacherText | None:
        """How the teacher writes what trials learn from; None where none of them does."""
        learned = sources.responses_learned(self.given(), self.points())
        asked = self.data.teacher_text or sources.TeacherText()
        return asked if Responses.TEACHER in learned else None

    def prepare_request(self) -> PrepareRequest:
        """Returns what all trials share, to be prepared once."""
        return PrepareRequest(
            task=self.task,
            teacher=self.teacher,
            student=self.student,
            adapter=first_adapter(self.given(), self.points()),
            tokenizer=self.tokenizer,
            data=DataSource(**{name: getattr(self.data, name) for name in DataSource.model_fields}),
            teacher_text=self.teacher_text,
            soft_prompt_tokens=sources.longest_soft_prompt(self.given(), self.points()),
            teacher_dtype=self.teacher.dtype,
            teacher_gpus=self.teacher_cache.gpus,
            scored_as=self.budget(),
            **{name: getattr(self.data, name) for name in fields.Data.model_fields},
        )
