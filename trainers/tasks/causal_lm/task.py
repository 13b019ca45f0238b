"""The language-model task: everything that other rooms ask it, without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainers.tasks.causal_lm.metrics import METRICS
from trainers.trial.config import TrialConfig
from trainers.trial.metrics import Metric


@dataclass(frozen=True)
class CausalLm:
    """A causal language model learns the responses to instructions. See `trainers.parts.Task`."""

    name: str = "causal_lm"
    default_metric: str = "rouge_l"

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """See `Task`."""
        return METRICS

    def guess_parameters(self, config: Mapping[str, Any], num_classes: int | None) -> int | None:
        """See `Task`: 12 width² a layer, and the embeddings."""
        width = config.get("hidden_size", config.get("n_embd"))
        depth = config.get("num_hidden_layers", config.get("n_layer"))
        if not isinstance(width, int) or not isinstance(depth, int) or num_classes is None:
            return None
        return 12 * depth * width**2 + num_classes * width

    def num_sampled_tokens(self, config: TrialConfig) -> int:
        """See `Task`: prompts are answered beside each other, their tokens one after another."""
        if not config.generation_prompts:
            return 0
        return config.evaluations * config.max_new_tokens * len(config.generation_seeds)
