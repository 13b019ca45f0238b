"""The language-model task as far as it is known without torch. See `trainers.parts.Task`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.tasks.causal_lm import activations, facts, inputs, templates
from trainers.tasks.causal_lm.inputs import TextKeys
from trainers.tasks.causal_lm.metrics import METRICS
from trainers.trial.config import TrialConfig
from trainers.trial.facts import Activations, Facts, ModelFacts, PreparedFacts
from trainers.trial.kinds import LARGEST_COUNT
from trainers.trial.metrics import Metric
from trainers.trial.sources import PrepareRequest, Role

if TYPE_CHECKING:
    from trainers.tasks.causal_lm.runtime import CausalLmRuntime


@dataclass(frozen=True)
class CausalLm:
    """A causal language model learns the responses to instructions."""

    name: str = "causal_lm"
    default_metric: str = "rouge_l"
    position_name: str = "response tokens"
    uses_parameters_once: bool = True
    has_output_matrix: bool = True
    step_s: float = 0.02
    pipeline: str = "text-generation"

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The table in `metrics.py`."""
        return METRICS

    @property
    def quick_evaluation(self) -> Mapping[str, Any]:
        """No generated text: sampling takes longer than everything else."""
        return {"generation_prompts": 0}

    @property
    def thorough_evaluation(self) -> Mapping[str, Any]:
        """MiniLLM's protocol: all prompts, sampled at temperature 1 with five seeds."""
        return {
            "generation_prompts": LARGEST_COUNT,
            "generation_seeds": (10, 20, 30, 40, 50),
            "generation_temperature": 1.0,
        }

    def data_fields(self, request: PrepareRequest) -> dict[str, Any]:
        """The lengths that the data was cut to."""
        return {
            "max_tokens": request.max_tokens,
            "max_prompt_tokens": request.max_prompt_tokens,
        }

    def check_request(self, request: PrepareRequest) -> None:
        """Raises `ValueError` for a template that is none, and a seed by which nothing is drawn."""
        inputs.check_request(request)

    def prompt_template(self, request: PrepareRequest) -> str | None:
        """Returns the wording of `data.template`; None for `chat`, which the tokenizer has."""
        return templates.around_prompt(request.data.template)

    def input_keys(self, request: PrepareRequest) -> TextKeys:
        """Returns what decides records, tokenizer and tokenised data."""
        return TextKeys(request)

    def example_texts(
        self, request: PrepareRequest, folder: Path, ids: Collection[int]
    ) -> dict[int, str]:
        """Returns their instructions and inputs."""
        from trainers.tasks.causal_lm.reading import prompts_of  # loads datasets

        return prompts_of(folder, ids, template=request.data.template)

    def inspect(
        self,
        request: PrepareRequest,
        configs: Mapping[str, Mapping[str, Any]],
        *,
        data: Path,
        home: Path,
    ) -> Facts:
        """Returns examples, response tokens and vocabulary: exact where the data is prepared."""
        return inputs.inspect(request, configs, data=data, home=home)

    def describe_model(self, request: PrepareRequest, role: Role, home: Path) -> ModelFacts:
        """Returns a transformers config and the parameters of its model."""
        return inputs.described_model(request, role, home, lambda: self.runtime().describe)

    def check_models(self, request: PrepareRequest, data: Path) -> None:
        """Raises `ValueError` for models whose vocabulary is not that of the data's tokenizer, and
        for a subset that cannot be drawn."""
        inputs.check_prepared(request, data)

    def read_prepared(self, folder: Path, request: PrepareRequest) -> PreparedFacts:
        """Returns the facts of tokenised data."""
        return facts.read_prepared(folder)

    def why_not_cached(self, config: TrialConfig) -> str:
        """A cache holds what the teacher, as it is, says of the data's text alone."""
        if config.soft_prompt_tokens:
            return (
                "the teacher reads a soft prompt that changes at each step "
                f"(soft_prompt_tokens={config.soft_prompt_tokens})"
            )
        if config.student_share == 0:
            return ""
        return (
            "the student writes text while it trains, which the teacher has to be asked about "
            f"then (student_share={config.student_share:g})"
        )

    def check_objective(self, metric: str, config: TrialConfig) -> None:
        """Raises `ValueError` for a metric of texts where none is generated."""
        if METRICS[metric].needs_text and not config.generation_prompts:
            raise ValueError(
                f"{metric} needs generated responses, but got evaluation.generation_prompts=0. "
                "Use a positive number, or another metric such as cross_entropy."
            )

    def guess_parameters(self, config: Mapping[str, Any], num_classes: int | None) -> int | None:
        """Returns 12 width² a layer, and the embeddings."""
        width = config.get("hidden_size", config.get("n_embd"))
        depth = config.get("num_hidden_layers", config.get("n_layer"))
        if not isinstance(width, int) or not isinstance(depth, int) or num_classes is None:
            return None
        return 12 * depth * width**2 + num_classes * width

    def guess_activations(self, config: Mapping[str, Any]) -> Activations | None:
        """Returns what layers of such widths keep."""
        return activations.guess(config)

    def longest_example(self, config: TrialConfig) -> int:
        """Prompt and response together."""
        return config.max_tokens

    def num_sampled_tokens(self, config: TrialConfig, num_evaluations: int) -> int:
        """Prompts are answered beside each other, their tokens one after another."""
        if not config.generation_prompts:
            return 0
        return num_evaluations * config.max_new_tokens * len(config.generation_seeds)

    def runtime(self) -> "CausalLmRuntime":
        """Returns the side that trains, which loads torch and transformers."""
        from trainers.tasks.causal_lm.runtime import CausalLmRuntime

        return CausalLmRuntime()
