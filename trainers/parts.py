"""The interfaces at which a task, a teacher, a source of batches and a training meet; no torch.

A task has two sides. `Task` is what is known of it without torch, for plans and tables; its
`runtime()` is the side that trains. Both are handed on as arguments: only entrances look a task up
by its name. What only a task itself looks into (its models, its batches) is `Any` here.
"""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from trainers.costs import Costs
from trainers.trial.config import TrialConfig
from trainers.trial.facts import Facts, ModelFacts, PreparedFacts, SetFacts
from trainers.trial.metrics import Metric
from trainers.trial.reporting import Evaluation
from trainers.trial.seen import ALL, Seen
from trainers.trial.sources import DataSource, ModelSource, PrepareRequest, Role

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from trainers.sampled import Sampled
    from trainers.signal import OutputHead, TeacherSignal
    from trainers.world import World

SPLIT_NAMES = ("train", "validation")


# -- data and batches


class Batch(Protocol):
    """Some examples of one split with N learned positions; N may be 0."""

    @property
    def split_name(self) -> str:
        """The split that the examples are of."""

    @property
    def examples(self) -> "NDArray[np.int64]":
        """Numbers [B] of the examples in their split."""

    @property
    def labels(self) -> "Tensor":
        """What is to be predicted [N], in [0, V)."""

    @property
    def sequence_ids(self) -> "Tensor":
        """Row in the batch [N] of each learned position."""

    @property
    def teacher_hidden(self) -> "Tensor | None":
        """What `StoredTeacher.hidden` returned for the examples, where it was read already."""

    @property
    def sampled(self) -> "Sampled | None":
        """Who wrote the rows, where some were written while training; None for prepared data."""

    def to(self, device: "torch.device") -> "Batch":
        """Returns the batch on `device`."""

    def pinned(self) -> "Batch":
        """Returns the batch in memory that a GPU copies from while the CPU goes on."""

    def with_teacher_hidden(self, hidden: "Tensor") -> "Batch":
        """Returns the batch with that `teacher_hidden`."""


class DataOrder(Protocol):
    """Which examples make which optimiser step."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which each example comes up once."""

    def examples(self, step: int) -> "NDArray[np.int64]":
        """Returns the examples of step `step` (0-based, over all epochs). Depends on the seed
        alone: never on the number of workers or micro-batches."""


class Split(Protocol):
    """One split of prepared data, opened. Examples are numbered from 0."""

    @property
    def name(self) -> str:
        """train | validation."""

    @property
    def num_learned(self) -> "NDArray[np.int64]":
        """Learned positions of each example."""

    @property
    def example_ids(self) -> "NDArray[np.int64]":
        """A number for what each example is: equal content, equal number."""

    @property
    def examples_per_epoch(self) -> int:
        """Examples that an epoch reads: all, or one view of each image."""

    def __len__(self) -> int:
        """Returns the number of examples: what a teacher's cache holds."""

    def num_positions(self, examples: "NDArray[np.int64]") -> int:
        """Returns the learned positions of `examples`, even of views that only one epoch has."""

    def order(self, *, batch_size: int, seed: int) -> DataOrder:
        """Returns the order in which a training reads the split."""

    def groups(self, examples: "NDArray[np.int64]", device_type: str) -> "list[NDArray[np.int64]]":
        """Returns `examples` in groups that one pass without gradients takes on such a device."""

    def collate(self, examples: "NDArray[np.int64]") -> Batch:
        """Returns the batch of `examples`, on the CPU."""


class Data(Protocol):
    """Prepared data of a task, opened."""

    @property
    def num_classes(self) -> int:
        """Size V of the vocabulary, or number of classes."""

    @property
    def splits(self) -> Mapping[str, Split]:
        """The splits by name (`SPLIT_NAMES`)."""

    def cache_key(self) -> dict[str, Any]:
        """Returns what decides a teacher's hidden states beside the teacher, the numerics and the
        `example_ids`, as plain data."""


# -- teacher and student


class Network(Protocol):
    """A model taken apart: what makes hidden states, and the head that makes logits of them."""

    @property
    def model(self) -> Any:
        """The model, a `torch.nn.Module`."""

    def hidden(self, batch: Any) -> "Tensor":
        """Returns the last hidden states [N, D] at the batch's learned positions."""

    def head(self) -> "OutputHead":
        """Returns the output head, a view on the model's weights."""


class Student(Network, Protocol):
    """The student as an evaluation sees it."""

    training: bool

    def train(self, mode: bool = True) -> Any:
        """Sets training mode, or evaluation mode."""

    def soften_teacher(self, student_logits: "Tensor", teacher_logits: "Tensor") -> "Tensor":
        """Returns the teacher's logits [N, V] as the soft loss sees them now."""


class SignalMaker(Protocol):
    """Whatever can say what the teacher thinks of a batch."""

    def signal(self, batch: Batch) -> "TeacherSignal":
        """Returns the teacher's hidden states [N, D] at the batch's positions, with its head."""


@runtime_checkable
class StoredTeacher(Protocol):
    """A teacher whose hidden states are on a disk: a feed reads them before a batch is wanted."""

    def hidden(self, split_name: str, examples: "NDArray[np.int64]") -> "Tensor":
        """Returns the stored hidden states [N, D] of some examples, on the CPU."""


@runtime_checkable
class SharedTeacher(Protocol):
    """A teacher of which each worker has a part, so that all have to ask together."""

    def uneven(self) -> AbstractContextManager[None]:
        """Returns a context in which workers ask as often as each has to. All enter it, and none
        waits for another in it but by asking."""


def unevenly(teacher: object) -> AbstractContextManager[None]:
    """Returns a context in which workers ask a teacher as often as each has to; see
    `SharedTeacher`."""
    return teacher.uneven() if isinstance(teacher, SharedTeacher) else nullcontext()


# -- evaluation


class Evaluator(Protocol):
    """Scores students on the validation split."""

    def evaluate(self, student: Student, before: Mapping[str, float]) -> Evaluation:
        """Returns the student's metrics, the same on every worker; `before`: those of the trial's
        last evaluation, none at its first. All workers call it; it leaves the student's mode and
        the random state as they were."""


# -- the task


class InputKeys(Protocol):
    """What decides a request's inputs, as plain data to hash; files are read when asked for."""

    @property
    def records(self) -> dict[str, Any]:
        """What decides the records of both splits: what each is read from by its name (train,
        validation), and how."""

    @property
    def data(self) -> dict[str, Any]:
        """What decides the prepared data."""

    @property
    def model(self) -> dict[str, Any]:
        """What decides a model that is made from its config, beside the config."""


class Task(Costs, Protocol):
    """What the student learns to do, as far as it is known without torch."""

    @property
    def name(self) -> str:
        """As in a sweep's `task`."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """What an evaluation measures, by name; those that can rank trials first. `cross_entropy`
        (of the validation split) is among them in every task."""

    @property
    def pipeline(self) -> str | None:
        """Hugging Face's name of its models' pipeline; None for models that are none of theirs."""

    def prompt_template(self, request: PrepareRequest) -> str | None:
        """Returns the text around a `{prompt}` (`str.format`) that the request's models are trained
        on; None where the tokenizer's chat template, or nothing, makes prompts."""

    @property
    def position_name(self) -> str:
        """What a learned position is called, in the plural."""

    @property
    def default_metric(self) -> str:
        """The objective of a sweep that names none."""

    @property
    def quick_evaluation(self) -> Mapping[str, Any]:
        """Fields of a trial whose evaluations leave out what is slow."""

    @property
    def thorough_evaluation(self) -> Mapping[str, Any]:
        """Fields of a trial as whose a finished student is evaluated."""

    def data_fields(self, request: PrepareRequest) -> dict[str, Any]:
        """Returns the fields of a trial that say what a fit sees of the request's data."""

    def check_request(self, request: PrepareRequest) -> None:
        """Raises `ValueError` for what can be refused without reading a file."""

    def input_keys(self, request: PrepareRequest) -> InputKeys:
        """Returns what decides the request's inputs."""

    def example_texts(
        self, request: PrepareRequest, folder: Path, ids: Collection[int]
    ) -> dict[int, str]:
        """Returns what people read of validation examples of the prepared data in `folder`, by
        their ids: a prompt without the template's words, an image's number and class. Empty where
        they cannot be read quickly. Raises `ValueError` for data that is damaged."""

    def inspect(
        self,
        request: PrepareRequest,
        configs: Mapping[str, Mapping[str, Any]],
        *,
        data: Path,
        home: Path,
    ) -> Facts:
        """Returns what is known of the request's data: examples, tokens, V, and where they come
        from. `configs`: the models' configs by role; `data`: the folder of the prepared data, which
        need not exist yet. Raises `ValueError` that says what is missing or does not fit."""

    def describe_model(self, request: PrepareRequest, role: Role, home: Path) -> ModelFacts:
        """Returns what the config of that role makes, built once without numbers (with torch), and
        remembered under `home`. Raises `ValueError` naming the field that makes no model."""

    def check_models(self, request: PrepareRequest, data: Path) -> None:
        """Raises `ValueError` unless the models that the request names fit the prepared data in the
        folder `data`, as far as that is known before they are loaded, and a subset can be drawn."""

    def read_prepared(self, folder: Path, request: PrepareRequest) -> PreparedFacts:
        """Returns the facts of the data in `folder` as `request` sees it; `ValueError` for none."""

    def why_not_cached(self, config: TrialConfig) -> str:
        """Returns why no cache can hold what the teacher says in trials like `config`; empty where
        one can."""

    def check_objective(self, metric: str, config: TrialConfig) -> None:
        """Raises `ValueError` unless trials like `config` measure `metric`."""

    def runtime(self) -> "TaskRuntime":
        """Returns the side of the task that trains. Loads torch."""


class TaskRuntime(Protocol):
    """The side of a task that trains. Folders of models are as `locate` found or `prepare` made
    them: their weights were refused or allowed before, and nothing is unpickled here."""

    def write_data(self, request: PrepareRequest, *, home: Path, folder: Path) -> None:
        """Writes the prepared data of `request` into `folder`. What it needs beside the records is
        made under `home`. Raises `ValueError` when an input is missing or wrong."""

    def write_all_learned(self, data: Path, folder: Path) -> None:
        """Writes the prepared `data` into `folder` so that its training learns prompts too. Raises
        `ValueError` where there are none."""

    def open_data(self, folder: Path, *, trust: bool = False, seen: Seen = ALL) -> Data:
        """Returns what is `seen` of the prepared data in `folder`. `trust`: whether code that its
        tokenizer brings along may run. Raises `ValueError` for too small a split."""

    def evaluation_set(
        self, source: DataSource, *, like: Any, config: TrialConfig, folder: Path
    ) -> tuple[Data, SetFacts]:
        """Returns the examples that `source.validation` names as the validation split of data that
        is otherwise `like` (what `open_data` returned), cut as trials with that config have them;
        written into `folder`. Raises `ValueError` for what is missing, wrong or does not fit."""

    def fingerprint(self, folder: Path) -> str:
        """Returns the SHA-256 over the content of the prepared data in `folder`, all read."""

    def initialise(self, source: ModelSource, role: str, *, data: Any, folder: Path) -> None:
        """Writes into `folder` a model with the architecture of `source.config`, its weights drawn
        from `source.init_seed`. Raises `ValueError` for a config that is wrong."""

    def outline(self, source: ModelSource, role: str) -> Any:
        """Returns the model that `source` names or makes, without numbers; `ValueError` if none."""

    def load_model(
        self,
        folder: Path,
        device: "torch.device",
        *,
        attention: str | None,
        dtype: "torch.dtype",
        trust: bool,
        gpus: int = 1,
    ) -> Any:
        """Returns the model in `folder` in evaluation mode, on `device` or, with several `gpus`,
        spread over the GPUs that this process sees. Raises `ValueError` where it cannot be."""

    def check_model(self, model: Any, data: Any) -> None:
        """Raises `ValueError` unless the model is what `network` takes it for, as some examples of
        the data show."""

    def check_smallest_batch(self, model: Any, data: Any, num_examples: int) -> None:
        """Raises `ValueError` for a model that cannot train on a micro-batch of so few examples."""

    def network(self, model: Any, num_classes: int) -> Network:
        """Returns the model taken apart; its head has `num_classes` rows."""

    def hidden_size(self, folder: Path, data: Any, *, trust: bool = False) -> int:
        """Returns the width D of hidden states for `data` of the model in `folder`, which is not
        loaded; code that it brings along runs only when `trust`."""

    def recompute_activations(self, model: Any) -> None:
        """Makes the model compute activations again in the backward pass, not keep them."""

    def evaluator(
        self,
        config: TrialConfig,
        data: Any,
        *,
        teacher: SignalMaker | None,
        world: "World",
        numerics: dict[str, Any],
        is_thorough: bool = False,
    ) -> Evaluator:
        """Returns what scores students on the data's validation split; `is_thorough`: by what takes
        too long for trials, too."""

    def save(self, model: Any, data: Any, folder: Path) -> None:
        """Writes the model into `folder` with all that using it elsewhere takes."""
