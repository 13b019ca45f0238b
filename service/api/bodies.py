"""What requests carry, and ask."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Header
from pydantic import ConfigDict, Field

from service.accounts.line import Priority
from service.actions.go_on import MoreOfStudy
from service.actions.hosted_changes import Wanted
from trainers.trial.strict import Strict

DOCUMENT = {
    "name": "mine",
    "teacher": {"model": "teachers/gpt2-xl-dolly"},
    "student": {"model": "gpt2"},
    "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
    "search": {"tau": {"float": [0.5, 8], "log": True}},
    "trials": 20,
}
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=8,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="drawn for this request: a repetition with the same key does nothing new",
    ),
]


def _shown(example: dict[str, Any]) -> ConfigDict:
    """Returns the configuration of a body with an example of it."""
    return ConfigDict(json_schema_extra={"example": example})


class SweepRequest(Strict):
    """A sweep to plan or to submit."""

    model_config = _shown({"spec": "demo", "overrides": ["trials=5"]})

    spec: dict[str, Any] | Annotated[str, Field(min_length=1, max_length=262_144)] = Field(
        description="a sweep document, as JSON or as the text of its YAML, or a preset's name",
        examples=["demo", DOCUMENT],
    )
    overrides: tuple[Annotated[str, Field(max_length=2000)], ...] = Field(
        default=(), max_length=100, description="a.b=value each", examples=[["trials=5"]]
    )
    warm_start: Annotated[str, Field(max_length=255)] | None = Field(
        default=None, description="an earlier sweep of yours that the sampler starts with"
    )

    def wanted(self) -> Wanted:
        """Returns what is asked for."""
        return Wanted(self.spec, self.overrides, self.warm_start)


class SubmitRequest(SweepRequest):
    """A sweep to submit. again: although you have the same sweep."""

    model_config = _shown({"spec": DOCUMENT, "again": False})

    again: bool = False
    priority: Priority = Field(
        default=Priority.NORMAL, description="in the line of those that wait; high: for admins"
    )

    def wanted(self) -> Wanted:
        """Returns what is asked for."""
        return replace(super().wanted(), again=self.again, priority=self.priority)


class ExtendRequest(Strict):
    """What a sweep gets in addition: a search trials, a study seeds or cells."""

    model_config = _shown({"trials": 20})

    trials: Annotated[int, Field(ge=1, le=100_000)] | None = Field(default=None, examples=[20])
    seeds: Annotated[int, Field(ge=0, le=10_000)] = 0
    cells: tuple[dict[str, Any], ...] = Field(default=(), max_length=1000)

    def study(self) -> MoreOfStudy | None:
        """Returns what a study gets."""
        return MoreOfStudy(self.seeds, self.cells) if self.seeds or self.cells else None


class ConfirmRequest(Strict):
    """What is trained again: so many of the best configs, on so many fresh seeds each."""

    model_config = _shown({"top": 3, "seeds": 5})

    top: Annotated[int, Field(ge=1, le=1000)] = 3
    seeds: Annotated[int, Field(ge=2, le=10_000)] = 5


class PromoteRequest(Strict):
    """What a student is registered as: NAME, or NAME@ALIAS."""

    model_config = _shown({"name": "dolly-student@champion"})

    name: Annotated[str, Field(min_length=1, max_length=255)]


class RetryRequest(Strict):
    """Which trials to repeat; none: all that failed."""

    model_config = _shown({"trials": [3, 7]})

    trials: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(), max_length=100_000)


class BestQuestion(Strict):
    """What `best` is asked: see its options on the command line."""

    metric: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, examples=["cross_entropy"]
    )
    direction: Annotated[str, Field(max_length=20)] | None = Field(
        default=None, examples=["minimize"]
    )
    where: tuple[Annotated[str, Field(max_length=500)], ...] = Field(
        default=(),
        max_length=100,
        description="FIELD=VALUE, or with != < <= > >=, each",
        examples=[["tau<2"]],
    )
    per: Annotated[str, Field(max_length=200)] | None = Field(default=None, examples=["divergence"])
    top: Annotated[int, Field(ge=1, le=10_000)] | None = Field(default=None, examples=[3])
    registered: bool = Field(default=False, description="promoted students alone")

    @property
    def ranking(self) -> str | tuple[str | None, str] | None:
        """The metric, with the direction where one is asked for."""
        return self.metric if self.direction is None else (self.metric, self.direction)
