"""The interfaces at which a task, a teacher, a source of batches and a training meet; no torch."""

from collections.abc import Mapping
from typing import Any, Protocol

from trainers.trial.config import TrialConfig
from trainers.trial.metrics import Metric


class Task(Protocol):
    """What the student learns to do, as far as it is known without torch. To be passed on as an
    argument: only entrances look it up in the table."""

    @property
    def name(self) -> str:
        """As in a sweep's `task`."""
        ...

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """What an evaluation measures, by name; those that can rank trials first. `cross_entropy`
        (of the validation split) is among them in every task."""
        ...

    @property
    def default_metric(self) -> str:
        """The objective of a sweep that names none."""
        ...

    def guess_parameters(self, config: Mapping[str, Any], num_classes: int | None) -> int | None:
        """Returns about how many weights a model from a transformers config has, or None when the
        config does not say enough."""
        ...

    def num_sampled_tokens(self, config: TrialConfig) -> int:
        """Returns how many tokens a trial's evaluations sample one after another."""
        ...
