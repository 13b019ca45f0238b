"""Which section of a sweep's document a field of a trial belongs to, and whether it may be
searched; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import get_annotations
from typing import ClassVar

from trainers.trial.strict import Strict


@dataclass(frozen=True)
class Group:
    """What the fields of one class have in common.

    section: where a sweep's document has them; empty for its top level. fixed_because: why a sweep
    cannot search them; empty where it can. task: the only task that has them; None for all.
    is_sparse: whether documents leave them out at their defaults, as fields that are newer than
    recorded sweeps must be, whose ids would change.
    """

    section: str
    fixed_because: str = ""
    task: str | None = None
    is_sparse: bool = False


class Fields(Strict):
    """Base of the classes below, each of which says its `group`."""

    group: ClassVar[Group]


def groups(config: type[Fields]) -> Mapping[str, Group]:
    """Returns the group of each field of `config`, in its order. Raises `TypeError` for a field
    that stands in a class without one, and would belong to no section."""
    return {name: _group_of(name, config) for name in config.model_fields}


def _group_of(name: str, config: type[Fields]) -> Group:
    # The class that writes the field itself, not one that inherits it: `vars`, unlike `getattr`,
    # does not find the group of a base.
    owner = next(each for each in config.__mro__ if name in get_annotations(each))
    group = vars(owner).get("group")
    if not isinstance(group, Group):
        raise TypeError(
            f"{owner.__name__}.{name}: a field must be written in a class that says its group, "
            f"but {owner.__name__} says none. Move it into LossFields, TrainingFields or another "
            "class of trainers/trial/fields.py or loss_fields.py whose section fits, or give the "
            "class a group."
        )
    return group
