"""TrialConfig: everything that decides what one trial computes, flat, strict and frozen; no torch.

The names under `search:` in a sweep are the fields of this class. Where data and models are stored
is not part of it (see `trial_file.py`), so the same config on another machine is the same trial.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from trainers.trial.adapters import AllAdapterFields, adapter_defaults, check_adapter
from trainers.trial.fields import Data, Evaluation, Loss, TaskField, Text, TrainingFields
from trainers.trial.groups import Group, groups
from trainers.trial.rules import (
    check_budget,
    check_lengths,
    check_loss,
    check_matrix,
    check_regions,
    loss_defaults,
)
from trainers.trial.sequence_rules import check_drawn_text, check_sequence_term, sequence_defaults
from trainers.trial.text_rules import (
    check_buffer,
    check_lengths_written,
    check_soft_prompt,
    check_taught,
)


# pydantic lists the fields of the last base first, which makes it task, loss, adapter, training,
# text, data and evaluation: the order of `trial.json`, of tables and of the schema.
class TrialConfig(Evaluation, Data, Text, TrainingFields, AllAdapterFields, Loss, TaskField):
    """One trial's hyperparameters and budget. Defaults of a divergence or policy are filled in, so
    that what was not written down is visible in `trial.json` too. Raises `ValueError` naming the
    field and the rule."""

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, values: Any) -> Any:
        """Writes out the defaults that depend on the divergence, the policy and the adapter."""
        if not isinstance(values, dict):
            return values
        # None is how a control says "not given" over a value of the sweep's own (`plan.trials`), so
        # a default takes its place too.
        filled = {name: value for name, value in values.items() if value is not None}
        if not filled.get("steps") and not filled.get("epochs"):
            filled["epochs"] = 1.0
        defaults = loss_defaults(filled) | sequence_defaults(filled) | adapter_defaults(filled)
        return defaults | filled

    @model_validator(mode="after")
    def _check_rules(self) -> "TrialConfig":
        _check_task(self)
        check_loss(self)
        check_sequence_term(self)
        check_adapter(self)
        check_budget(self)
        check_lengths(self)
        check_regions(self, self)
        check_matrix(self, self)
        check_lengths_written(self, self)
        check_buffer(self, self)
        check_taught(self, self)
        check_soft_prompt(self, self)
        check_drawn_text(self, self)
        return self

    @model_serializer(mode="wrap")
    def _only_of_its_task(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out the fields that only another task has, and those that are left out at their
        defaults."""
        dumped: dict[str, Any] = handler(self)
        return {
            name: value
            for name, value in dumped.items()
            if not is_of_another_task(name, self.task) and not self._is_left_out(name)
        }

    def _is_left_out(self, name: str) -> bool:
        default = type(self).model_fields[name].default
        return GROUPS[name].is_sparse and getattr(self, name) == default


GROUPS: Mapping[str, Group] = groups(TrialConfig)
NOT_SEARCHABLE: Mapping[str, str] = {
    name: group.fixed_because for name, group in GROUPS.items() if group.fixed_because
}


def fields_in(section: str) -> tuple[str, ...]:
    """Returns the names of a section of the document that are fields of a trial, in order."""
    return tuple(name for name, group in GROUPS.items() if group.section == section)


LOSS_FIELDS = fields_in("loss")


def is_of_another_task(name: str, task: str) -> bool:
    """Returns whether `name` is a field that trials of `task` do not have."""
    return name in GROUPS and GROUPS[name].task not in (None, task)


def _check_task(config: TrialConfig) -> None:
    """Raises `ValueError` where a field is given that only another task has."""
    given = config.model_fields_set
    for name, group in GROUPS.items():
        if name in given and is_of_another_task(name, config.task):
            raise ValueError(
                f"{name} belongs to task '{group.task}', but got {name}={getattr(config, name)} "
                f"with task '{config.task}'. Leave it out"
            )
