"""What requests carry, and ask."""

from typing import Annotated, Any

from fastapi import Header
from pydantic import Field

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


class SweepRequest(Strict):
    """A sweep to plan or to submit."""

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

    def wanted(self, *, again: bool = False) -> Wanted:
        """Returns what is asked for."""
        return Wanted(self.spec, self.overrides, self.warm_start, again)


class SubmitRequest(SweepRequest):
    """A sweep to submit. again: although you have the same sweep."""

    again: bool = False


class ExtendRequest(Strict):
    """What a sweep gets in addition: a search trials, a study seeds or cells."""

    trials: Annotated[int, Field(ge=1, le=100_000)] | None = Field(default=None, examples=[20])
    seeds: Annotated[int, Field(ge=0, le=10_000)] = 0
    cells: tuple[dict[str, Any], ...] = Field(default=(), max_length=1000)

    def study(self) -> MoreOfStudy | None:
        """Returns what a study gets."""
        return MoreOfStudy(self.seeds, self.cells) if self.seeds or self.cells else None


class RetryRequest(Strict):
    """Which trials to repeat; none: all that failed."""

    trials: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(), max_length=100_000)


class BestQuestion(Strict):
    """What `best` is asked: see its options on the command line."""

    metric: Annotated[str, Field(max_length=200)] | None = None
    direction: Annotated[str, Field(max_length=20)] | None = None
    where: tuple[Annotated[str, Field(max_length=500)], ...] = Field(
        default=(), max_length=100, description="FIELD=VALUE, or with != < <= > >=, each"
    )
    per: Annotated[str, Field(max_length=200)] | None = None
    top: Annotated[int, Field(ge=1, le=10_000)] | None = None

    @property
    def ranking(self) -> str | tuple[str | None, str] | None:
        """The metric, with the direction where one is asked for."""
        return self.metric if self.direction is None else (self.metric, self.direction)
