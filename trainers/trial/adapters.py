"""What a student learns in place of all its weights: the settings of an adapter; no torch.

`TrialConfig` has them as `adapter_rank` and so on; a document writes them without that prefix,
under `student.adapter` or a `fit.adapter`.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from trainers.trial.groups import Fields, Group
from trainers.trial.kinds import NOT_A_SWITCH, Count, Name, Positive
from trainers.trial.strict import Strict

PREFIX = "adapter_"
RANK, ALPHA_PER_RANK = 16, 2.0
DROPOUT = 0.0
Dropout = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), NOT_A_SWITCH]
Targets = Annotated[tuple[Name, ...], Field(min_length=1)]


class AdapterKind(StrEnum):
    """What a student trains: all its weights, or low-rank matrices beside frozen ones."""

    NONE = "none"
    LORA = "lora"


class Adapter(Strict):
    """LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685): a frozen matrix W acts as
    W + alpha / rank · B A, of which only A and B are trained."""

    kind: Literal["lora"] = "lora"
    rank: Annotated[Count, Field(description="columns of B, rows of A; default: 16")] = RANK
    alpha: Annotated[
        Positive | None, Field(description="times B A / rank; default: twice the rank")
    ] = None
    dropout: Annotated[Dropout, Field(description="of the input of A")] = DROPOUT
    targets: Annotated[
        Targets | None,
        Field(description="names, or their ends, of linear layers; default: all but the head"),
    ] = None

    @model_serializer(mode="wrap")
    def _only_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out defaults: a field that a section gives cannot be searched."""
        dumped: dict[str, Any] = handler(self)
        return {name: value for name, value in dumped.items() if name in self.model_fields_set}

    @property
    def known_alpha(self) -> float:
        """The alpha that is given, or its default."""
        return ALPHA_PER_RANK * self.rank if self.alpha is None else self.alpha

    def fields(self) -> dict[str, Any]:
        """Returns the fields of a trial that it gives, without its defaults."""
        given = self.model_fields_set | {"kind"}
        return {f"{PREFIX}{name}": getattr(self, name) for name in given}


def _is_none(value: object) -> bool:
    """Leaves a field out of a document, so that sweeps without adapters keep their ids."""
    return value is None


SECTION = "student.adapter"


class AdapterFields(Fields):
    """Whether and how a student trains an adapter. Without one the rest is None."""

    group = Group(section=SECTION)

    adapter_kind: Annotated[
        AdapterKind,
        Field(
            description="none: all of the student's weights are trained",
            exclude_if=lambda kind: kind == AdapterKind.NONE,
        ),
    ] = AdapterKind.NONE
    adapter_rank: Annotated[Count | None, Field(exclude_if=_is_none)] = None
    adapter_alpha: Annotated[Positive | None, Field(exclude_if=_is_none)] = None
    adapter_dropout: Annotated[Dropout | None, Field(exclude_if=_is_none)] = None


class AdapterTargets(Fields):
    """Which layers an adapter is beside."""

    group = Group(section=SECTION, fixed_because="an adapter is beside the same layers in each")

    adapter_targets: Annotated[Targets | None, Field(exclude_if=_is_none)] = None


class AllAdapterFields(AdapterTargets, AdapterFields):
    """All fields of a trial's adapter."""


def adapter_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the given adapter leaves to its defaults."""
    if given.get("adapter_kind", AdapterKind.NONE) != AdapterKind.LORA:
        return {}
    rank = given.get("adapter_rank", RANK)
    defaults: dict[str, Any] = {"adapter_rank": rank, "adapter_dropout": DROPOUT}
    if isinstance(rank, int) and rank > 0:  # pydantic refuses any other
        defaults["adapter_alpha"] = ALPHA_PER_RANK * rank
    return defaults


def check_adapter(config: AllAdapterFields) -> None:
    """Raises `ValueError` where a field is given that only adapters have, and there is none."""
    if config.adapter_kind != AdapterKind.NONE:
        return
    for name in AllAdapterFields.model_fields:
        value = getattr(config, name)
        if name != "adapter_kind" and value is not None:
            raise ValueError(
                f"{name} belongs to adapter_kind '{AdapterKind.LORA}', but got {name}={value} "
                f"with adapter_kind '{AdapterKind.NONE}'. Set student.adapter: {{kind: lora}}"
            )


def adapter_of(config: AllAdapterFields) -> Adapter | None:
    """Returns the adapter that a trial trains; None where it trains the whole student."""
    if config.adapter_kind == AdapterKind.NONE:
        return None
    names = [name.removeprefix(PREFIX) for name in AllAdapterFields.model_fields]
    return Adapter.model_validate(
        {name: getattr(config, PREFIX + name) for name in names if name != "kind"}
    )


def first_adapter(given: Mapping[str, Any], points: Iterable[Mapping[str, Any]]) -> Adapter | None:
    """Returns the adapter of the first of a sweep's trials that has one: hyperparameters at
    `points` over the `given` fields. The layers that it is beside are those of the others, too."""
    for values in points:
        found = {name: value for name, value in {**given, **values}.items() if value is not None}
        if found.get("adapter_kind", AdapterKind.NONE) != AdapterKind.NONE:
            names = AllAdapterFields.model_fields.keys() & found.keys()
            return Adapter.model_validate({n.removeprefix(PREFIX): found[n] for n in names})
    return None
