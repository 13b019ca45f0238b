"""What is written to the record: one typed entry for each thing that MLflow is sent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from trainers.files.urls import without_secrets

PENDING = "pending:"  # begins the name of a run that has no id of MLflow's yet


def reference_to(sweep_id: str, trial: int | str) -> str:
    """Returns the name that a trial's run has before MLflow gave it an id; with an empty `trial`,
    the sweep's."""
    return f"{PENDING}{sweep_id}/{trial}"


class Away(Exception):
    """The server did not answer; keep the entries. The reason is logged, so it hides what is secret
    in an address."""

    def __init__(self, reason: str) -> None:
        super().__init__(without_secrets(reason))


class Unresolved(Away):
    """The server answers, but does not know the run yet: its creation still waits somewhere."""


class Deleted(Away):
    """The experiment was deleted, and can be restored."""


class NeverMade(Exception):
    """The store refused the run that an entry belongs to."""


@dataclass(frozen=True)
class Rejected:
    """An entry that the server will never take, and why."""

    entry: "Entry"
    reason: str


def _encodable(value: Any) -> Any:
    """Spells out half surrogate pairs, which an error's text may hold (a file's name that is not
    UTF-8): they can be neither kept nor sent, and the rest of the entry must not be lost."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    return value


Text = Annotated[str, BeforeValidator(_encodable)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    run: str = Field(description="MLflow's run id, or pending:<sweep_id>/<trial>")
    at_ms: int = Field(description="wall clock, milliseconds since 1970")


class InputEntry(BaseModel):
    """A dataset that a run reads: name, digest of at most 36 characters, place, what for, and its
    size and the like by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    digest: str
    source: str
    context: str
    profile: dict[str, Any] = {}


class RunEntry(_Entry):
    """A run that must exist and be running, with all that is known when it starts."""

    kind: Literal["run"] = "run"
    name: str
    tags: dict[str, Text]
    params: dict[str, Text] = {}
    inputs: tuple[InputEntry, ...] = ()
    texts: dict[str, Text] = {}


class MetricsEntry(_Entry):
    """Metrics of one step; NaN and infinities are allowed."""

    kind: Literal["metrics"] = "metrics"
    step: int
    metrics: dict[str, float]


class FileEntry(_Entry):
    """A local file or folder that becomes an artifact."""

    kind: Literal["file"] = "file"
    path: str
    folder: str | None


class ModelFacts(BaseModel):
    """What is known of all the students of a sweep.

    pipeline: Hugging Face's name of what they do; prompt_template: the text around a `{prompt}`,
    None where the tokenizer's chat template makes it; made_from: models and data, in words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pipeline: str
    prompt_template: Text | None = None
    made_from: dict[str, Text] = {}


class ModelEntry(_Entry):
    """A trial's student, a Hugging Face folder, that becomes the run's logged model."""

    kind: Literal["model"] = "model"
    path: str
    name: str
    facts: ModelFacts


class TextEntry(_Entry):
    """A text that becomes an artifact."""

    kind: Literal["text"] = "text"
    text: Text
    name: str


class TagsEntry(_Entry):
    """Tags of a run, over those that it has."""

    kind: Literal["tags"] = "tags"
    tags: dict[str, Text]


class StateEntry(_Entry):
    """A run's end (or its return to running), with the tags and metrics that belong to it."""

    kind: Literal["state"] = "state"
    status: str
    tags: dict[str, Text]
    metrics: dict[str, float] = {}


Entry = Annotated[
    RunEntry | MetricsEntry | FileEntry | ModelEntry | TextEntry | TagsEntry | StateEntry,
    Field(discriminator="kind"),
]


ENTRY_ADAPTER: TypeAdapter[Entry] = TypeAdapter(Entry)

Deliver = Callable[[Sequence[Entry]], list[Rejected]]
"""Delivers entries in order; returns what the server will never take, raises `Away`."""
