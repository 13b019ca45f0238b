"""What a sweep names as its inputs (models, tokenizer and data, each as the user wrote it), and
what preparing them returns; no torch."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, model_validator

from trainers.trial.adapters import Adapter
from trainers.trial.config import TrialConfig
from trainers.trial.fields import (
    Data,
    Decay,
    LanguageDataFields,
    Optimizer,
    Precision,
    Schedule,
    TaskName,
)
from trainers.trial.kinds import (
    NOT_A_SWITCH,
    Count,
    CountOrNone,
    Epochs,
    Fraction,
    Length,
    Name,
    NonNegative,
    Positive,
    Seed,
    Workers,
)
from trainers.trial.strict import Strict
from trainers.trial.text_fields import MOST_SAMPLES, Responses

BUILTIN_PREFIX = "builtin:"
Role = Literal["teacher", "student"]
ROLES: tuple[Role, ...] = get_args(Role)
CodeRole = Literal["teacher", "student", "tokenizer"]
CODE_ROLES: tuple[CodeRole, ...] = get_args(CodeRole)
WeightsDtype = Literal["float32", "float16", "bfloat16"]


def _check_one_of(source: BaseModel, first: str, second: str) -> None:
    """Raises `ValueError` unless exactly one of the two fields has a value."""
    one, other = getattr(source, first), getattr(source, second)
    if (one is None) == (other is None):
        raise ValueError(
            f"give exactly one of {first} and {second}, "
            f"but got {first}={one!s:.80}, {second}={other!s:.80}"
        )


class Learned(StrEnum):
    """Which tokens of an example a fit learns."""

    RESPONSES = "responses"
    ALL = "all"


class FitConfig(Strict):
    """A supervised stage (cross-entropy on the training data), done once per key and shared by all
    trials."""

    epochs: Epochs | None = None
    steps: Count | None = None
    batch_size: Count = 32
    learning_rate: Positive = 5e-4
    weight_decay: NonNegative = 0.01
    warmup: Fraction = 0.0
    precision: Precision = Precision.AUTO
    seed: Seed = 0
    # What is left out of a document, so that models that were fitted before keep their keys.
    optimizer: Optimizer = Field(
        default=Optimizer.ADAMW, exclude_if=lambda value: value == Optimizer.ADAMW
    )
    schedule: Schedule = Field(
        default=Schedule.COSINE, exclude_if=lambda value: value == Schedule.COSINE
    )
    decay: Decay = Field(default=Decay.MATRICES, exclude_if=lambda value: value == Decay.MATRICES)
    clip_norm: NonNegative = Field(default=1.0, exclude_if=lambda value: value == 1.0)
    learn: Learned = Field(
        default=Learned.RESPONSES,
        exclude_if=lambda value: value == Learned.RESPONSES,
        description="all: prompts too, from which a model made from a config learns more",
    )
    adapter: Adapter | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="trained in place of all weights, and merged with them at the end",
    )

    @model_validator(mode="after")
    def _one_budget(self) -> "FitConfig":
        _check_one_of(self, "steps", "epochs")
        return self


class ModelSource(Strict):
    """A model: `model` (Hugging Face name or local folder), or `config` (the keys of a transformers
    config with its `model_type`; weights drawn from `init_seed`), each with an optional fit."""

    model: Name | None = Field(
        default=None,
        description="Hugging Face name or local folder; what begins with ., / or ~ is a folder",
    )
    config: dict[str, Any] | None = Field(
        default=None, description="transformers config, model_type in it"
    )
    fit: FitConfig | None = None
    init_seed: Seed = 0
    revision: Name | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = Field(default=False, description="accept weights that are not safetensors")

    @model_validator(mode="after")
    def _one_origin(self) -> "ModelSource":
        _check_one_of(self, "model", "config")
        if self.config is not None and "model_type" not in self.config:
            raise ValueError(
                "config must name its model_type (gpt2, llama, qwen2, …), "
                f"but got the keys {sorted(self.config)}"
            )
        return self


class TeacherSource(ModelSource):
    """What trials ask, and in which dtype."""

    dtype: WeightsDtype | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # sweeps without it keep their ids
        description="of its weights, in which it computes; default: half-precision weights as they "
        "are stored, others in the trials' precision",
    )


class StudentSource(ModelSource):
    """What trials start from, and the adapter that they train in place of all its weights."""

    adapter: Adapter | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # sweeps without it keep their ids
        description="trained by each trial, beside the student's frozen weights",
    )


class TokenizerTraining(Strict):
    """A byte-level BPE tokenizer trained on the training data."""

    vocab_size: Annotated[int, Field(ge=300, le=10**7)]


class TokenizerSource(Strict):
    """The tokenizer of teacher and student: `model` (name or folder), or `train` (made from the
    data)."""

    model: Name | None = None
    train: TokenizerTraining | None = None
    trust_remote_code: bool = Field(
        default=False,
        exclude_if=lambda trust: not trust,  # sweeps without it keep their ids
    )

    @model_validator(mode="after")
    def _one_origin(self) -> "TokenizerSource":
        _check_one_of(self, "model", "train")
        return self


class Columns(Strict):
    """Which columns of the data hold what. Where these have their default names and a record has
    no `output`, its `prompt` and `completion` are the instruction and the response."""

    instruction: str = "instruction"
    input: str = Field(default="input", description="may be absent, blank or null")
    response: str = Field(default="output", description="may not be blank")
    references: str = Field(
        default="references",
        description="a list of all accepted answers, in CSV as JSON; default: the response alone",
    )
    messages: str = Field(
        default="messages",
        description=(
            "with template: chat, a list of {role, content} or {from, value} that ends with the "
            "assistant's answer, in CSV as JSON; conversations means the same, and so do prompt "
            "and completion that are two such lists; system beside them is the first turn"
        ),
    )


PLACE = (
    "a file (.jsonl, .json with one array, .csv, each also .gz; .parquet, .arrow), a pattern of "
    "files (data/*.parquet), a folder that save_to_disk wrote or that was cloned from a hub, a "
    "Hugging Face data set, or builtin:docstrings"
)


def _is_none(value: object) -> bool:
    """Leaves a field out of a document, so that sweeps without it keep their keys."""
    return value is None


class DataSource(Strict):
    """Instruction and response pairs, or conversations. What begins with `.`, `/` or `~`, or has a
    file's ending, is a path and must exist; `builtin:docstrings` is made from the installed
    Python's own standard library."""

    train: Name = Field(description=PLACE)
    validation: Name = Field(description=PLACE)
    train_split: Name = Field(
        default="train", description="of a Hugging Face data set, or a folder with several splits"
    )
    validation_split: Name = Field(
        default="validation",
        description="of a Hugging Face data set, or a folder with several splits",
    )
    config_name: Name | None = Field(
        default=None,
        description="of a Hugging Face data set that has several configs",
        exclude_if=_is_none,
    )
    image_column: Name | None = Field(default=None, description="of images", exclude_if=_is_none)
    label_column: Name | None = Field(default=None, description="of labels", exclude_if=_is_none)
    image_size: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None,
        description="pixels of a side to which pictures are scaled and cut; default: as they are",
        exclude_if=_is_none,
    )
    columns: Columns = Columns()
    template: str = Field(
        default="alpaca",
        description=(
            "alpaca | chat (the tokenizer's own, on messages) | text with {instruction} and {input}"
        ),
    )
    max_train_examples: Count | None = None
    max_validation_examples: Count | None = None


class TeacherText(Strict):
    """How the teacher answers the training prompts, once, for all trials with `responses: teacher`.
    None of it follows a temperature of a trial."""

    temperature: NonNegative = Field(
        default=1.0, description="of the teacher's text; 0 is greedy. Apart from tau"
    )
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), NOT_A_SWITCH] = 1.0
    samples_per_prompt: Count = Field(
        default=1, le=MOST_SAMPLES, description="each is an example, so that epochs are longer"
    )
    max_tokens: Length | None = Field(
        default=None, description="of a response; default: what max_prompt_tokens leaves"
    )
    seed: Seed = 0

    @model_validator(mode="after")
    def _samples_differ(self) -> "TeacherText":
        if self.temperature == 0 and self.samples_per_prompt > 1:
            raise ValueError(
                "samples_per_prompt must be 1 at temperature 0, where they would all be the same, "
                f"but got {self.samples_per_prompt}. Use a positive temperature"
            )
        return self

    def longest(self, lengths: LanguageDataFields) -> int:
        """Returns the tokens of the longest response behind prompts of such `lengths`."""
        return lengths.response_room() if self.max_tokens is None else self.max_tokens


def responses_learned(
    given: Mapping[str, Any], points: Iterable[Mapping[str, Any]]
) -> set[Responses]:
    """Returns whose responses trials learn from: with the fields that a sweep has `given` and those
    of one of its `points`, of which null takes a given one back."""
    asked = ({**given, **point}.get("responses") for point in points)
    return {Responses(one or Responses.DATA) for one in asked}


def longest_soft_prompt(given: Mapping[str, Any], points: Iterable[Mapping[str, Any]]) -> int:
    """Returns the most `soft_prompt_tokens` of trials: as `responses_learned` looks at them."""
    asked = [{**given, **point}.get("soft_prompt_tokens") or 0 for point in points]
    return max(asked, default=0)


# The inputs that only one task reads.
INPUTS_OF: Mapping[str, TaskName] = {
    **dict.fromkeys(("columns", "template", "teacher_text"), TaskName.CAUSAL_LM),
    **dict.fromkeys(
        ("image_column", "label_column", "image_size"),
        TaskName.IMAGE_CLASSIFICATION,
    ),
}


class PrepareRequest(Data):
    """Everything that is prepared once for a sweep and shared by its trials: the fields of a trial
    that decide its data, and what data and models are made from."""

    task: TaskName = TaskName.CAUSAL_LM
    teacher: ModelSource
    student: ModelSource
    adapter: Adapter | None = Field(default=None, description="that some of the trials train")
    tokenizer: TokenizerSource | None = Field(default=None, description="default: the teacher's")
    data: DataSource
    teacher_text: TeacherText | None = Field(
        default=None, description="for the trials that learn from the teacher's text, if any do"
    )
    soft_prompt_tokens: CountOrNone = Field(
        default=0, description="most that the teacher of a trial reads before an example"
    )
    teacher_dtype: WeightsDtype | None = Field(
        default=None, description="that the teacher computes in, where one is asked for"
    )
    teacher_gpus: Workers = Field(default=1, description="over which the teacher is spread")
    scored_as: TrialConfig | None = Field(
        default=None,
        description="the trial whose evaluation teacher and student are scored with before any",
    )

    def trusts(self, role: CodeRole) -> bool:
        """Returns whether code that the model of that role, or the tokenizer, brings along may run.
        A tokenizer that is not named is the teacher's."""
        if role == "tokenizer":
            return (self.tokenizer or self.teacher).trust_remote_code
        return self.source(role).trust_remote_code

    def source(self, role: Role) -> ModelSource:
        """Returns the model of that role."""
        return self.teacher if role == "teacher" else self.student


class Scores(Strict):
    """What teacher and student score before any trial, measured as trials are, and how long that
    took."""

    teacher: dict[str, float] = Field(description="without what compares a student with it")
    undistilled: dict[str, float] = Field(description="of the student's start")
    evaluation_s: float = Field(description="seconds of one evaluation of the student")
    forward_s: float = Field(description="of which without sampled answers")


class PreparedText(Strict):
    """The data with the teacher's responses in place of those to train on."""

    data: str = Field(description="folder")
    fingerprint: str = Field(description="SHA-256 of the data in it")
    num_examples: int
    num_tokens: int = Field(description="response tokens of one epoch")


class Prepared(Strict):
    """What preparing returned: folders, fingerprints, and facts that plans and tables show."""

    teacher: str
    student: str
    data: str
    fingerprints: dict[str, str] = Field(description="teacher, student, tokenizer, data: SHA-256")
    teacher_dtype: WeightsDtype | None = Field(
        default=None, description="that the teacher computes in; null: the trials' precision"
    )
    vocab_size: int
    num_train_examples: int
    num_train_tokens: int = Field(description="response tokens of one epoch")
    num_validation_examples: int
    teacher_metrics: dict[str, float] = Field(
        description="validation metrics of the teacher itself, and entropy at tau = 1 over ln V"
    )
    student_metrics: dict[str, float] = Field(description="the same of the student's start")
    scores: Scores | None = Field(default=None, description="where the request says as what")
    teacher_text: PreparedText | None = Field(default=None, description="where that was asked for")
