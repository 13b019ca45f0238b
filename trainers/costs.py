"""What a plan asks a task to know what trials cost: the part of `parts.Task` that needs no data."""

from collections.abc import Mapping
from typing import Any, Protocol

from trainers.trial.config import TrialConfig
from trainers.trial.facts import Activations


class Costs(Protocol):
    """How much a task's models compute and keep."""

    @property
    def uses_parameters_once(self) -> bool:
        """Whether a position takes each parameter once; a convolution takes its at every pixel."""

    @property
    def has_output_matrix(self) -> bool:
        """Whether logits are an output matrix times hidden states; of few classes hidden states are
        the logits."""

    @property
    def step_s(self) -> float:
        """About the seconds of a step on models as small as they can be."""

    def guess_parameters(self, config: Mapping[str, Any], num_classes: int | None) -> int | None:
        """Returns about how many weights a model from a config has, None where it does not say."""

    def guess_activations(self, config: Mapping[str, Any]) -> Activations | None:
        """Returns about what training a model with that complete config keeps of a forward pass,
        None where it does not say."""

    def longest_example(self, config: TrialConfig) -> int:
        """Returns the most positions of an example that pass through the models together."""

    def num_sampled_tokens(self, config: TrialConfig, num_evaluations: int) -> int:
        """Returns how many tokens so many evaluations of a trial sample one after another."""
