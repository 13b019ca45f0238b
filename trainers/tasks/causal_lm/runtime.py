"""The side of the language-model task that trains. See `trainers.parts.TaskRuntime`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers.parts import Network, SignalMaker
from trainers.responses import Sampling
from trainers.sampled import Author, Sample
from trainers.tasks.causal_lm import building, data, models, soft_prompts, tokenizer, writing
from trainers.tasks.causal_lm.data import TokenData
from trainers.tasks.causal_lm.evaluation import TextEvaluator
from trainers.tasks.causal_lm.generation import end_tokens
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.tasks.causal_lm.sampling import ModelSampler
from trainers.tasks.causal_lm.soft_prompts import PromptedModel
from trainers.tasks.causal_lm.text_writer import TextWriter
from trainers.tasks.causal_lm.writing import DataWriter
from trainers.trial.budget import sampled_tokens
from trainers.trial.config import TrialConfig
from trainers.trial.facts import ModelFacts, SetFacts
from trainers.trial.seen import ALL, Seen
from trainers.trial.sources import DataSource, ModelSource, PrepareRequest, TeacherText
from trainers.world import World

CHECKED_EXAMPLES = 2


@dataclass(frozen=True)
class CausalLmRuntime:
    """Plain methods over the modules beside this one; nothing is kept from one call to the next."""

    def write_data(self, request: PrepareRequest, *, home: Path, folder: Path) -> None:
        """Writes tokenised splits, the tokenizer (trained under `home` where the request asks for
        that) and the facts."""
        DataWriter(request, home).write(folder)

    def write_all_learned(self, data: Path, folder: Path) -> None:
        """Writes the data with every token of the training split learned."""
        writing.write_all_learned(data, folder)

    def open_data(self, folder: Path, *, trust: bool = False, seen: Seen = ALL) -> TokenData:
        """Returns the tokenised data in `folder`."""
        return TokenData.open(folder, trust=trust, subset=seen.subset)

    def evaluation_set(
        self, source: DataSource, *, like: TokenData, config: TrialConfig, folder: Path
    ) -> tuple[TokenData, SetFacts]:
        """See `trainers.parts.TaskRuntime`; a prompt that is too long drops its record."""
        return writing.evaluation_set(source, like, config, folder)

    def fingerprint(self, folder: Path) -> str:
        """Returns the SHA-256 over token ids, what is learned and accepted answers."""
        return data.fingerprint(folder)

    def initialise(self, source: ModelSource, role: str, *, data: TokenData, folder: Path) -> None:
        """Writes a model whose vocabulary and special tokens are those of the data's tokenizer,
        unless the config gives others."""
        building.initialise(source, role, data.tokenizer, folder)

    def describe(self, config: Mapping[str, Any], role: str, num_classes: int | None) -> ModelFacts:
        """Returns the complete config, and the parameters of a model that transformers builds."""
        return building.describe(config, role, num_classes)

    def outline(self, source: ModelSource, role: str) -> Any:
        """Returns transformers' causal language model without numbers."""
        return building.outline(source, role)

    def load_model(
        self,
        folder: Path,
        device: torch.device,
        *,
        attention: str | None,
        dtype: torch.dtype,
        trust: bool,
        gpus: int = 1,
    ) -> Any:
        """Returns transformers' causal language model."""
        return models.load_on(
            device, folder, attention=attention, dtype=dtype, trust=trust, gpus=gpus
        )

    def check_model(self, model: Any, data: TokenData) -> None:
        """Raises `ValueError` unless the model is causal and its logits are one matrix times its
        last hidden states: that is all that a loss or a cache gets of them."""
        split = data.splits["validation"]
        batch = split.collate(np.arange(min(CHECKED_EXAMPLES, len(split)))).to(model.device)
        models.check_head(model, batch.input_ids, data.num_classes)
        models.check_causal(model, batch.input_ids, data.num_classes)

    def check_smallest_batch(self, model: Any, data: TokenData, num_examples: int) -> None:
        """Any number of examples will do."""

    def network(self, model: Any, num_classes: int) -> LanguageModel:
        """Returns the body and the head over the real vocabulary."""
        return LanguageModel.of(model, num_classes)

    def hidden_size(self, folder: Path, data: TokenData, *, trust: bool = False) -> int:
        """Returns the width of the last hidden states."""
        return models.hidden_size(folder, trust=trust)

    def recompute_activations(self, model: Any) -> None:
        """Turns on transformers' gradient checkpointing, which keeps the inputs of layers only."""
        model.activation_checkpointing_enable({"use_reentrant": False})

    def evaluator(
        self,
        config: TrialConfig,
        data: TokenData,
        *,
        teacher: SignalMaker | None,
        world: World,
        numerics: dict[str, Any],
        is_thorough: bool = False,
    ) -> TextEvaluator:
        """Returns what measures the metrics of `metrics.py`."""
        return TextEvaluator(config, data, teacher, world, numerics, is_thorough)

    def writer(
        self,
        config: TrialConfig,
        data: TokenData,
        *,
        student: Network,
        teacher: Network | None,
        numerics: dict[str, Any],
    ) -> TextWriter:
        """Returns what answers the prompts of the training split with the models in this process.
        Raises `ValueError` for a mixture with a teacher that is not there."""
        sampling = Sampling(
            temperature=config.sampling_temperature,
            max_new_tokens=sampled_tokens(config),
            end_token_ids=end_tokens(student.model, data.tokenizer, data.facts.end_of_turn),
            pad_token_id=data.facts.pad_token_id,
            top_p=config.sampling_top_p,
            teacher_mix=config.teacher_mix,
        )
        sampler = ModelSampler(student, sampling, numerics, teacher)
        author = Author.MIXTURE if config.teacher_mix else Author.STUDENT
        return TextWriter(data.splits["train"], sampler, author, (config.seed,))

    def behind_prompt(
        self, config: TrialConfig, data: TokenData, *, teacher: LanguageModel
    ) -> PromptedModel:
        """Returns the teacher behind a prompt that starts as the embeddings of the config's
        text."""
        return soft_prompts.prompted(
            teacher,
            data.tokenizer,
            text=config.soft_prompt_text,
            num_tokens=config.soft_prompt_tokens,
            max_tokens=config.max_tokens,
        )

    def teacher_writer(
        self,
        asked: TeacherText,
        data: TokenData,
        *,
        teacher: Network,
        max_tokens: int,
        numerics: dict[str, Any],
    ) -> TextWriter:
        """Returns what has the teacher answer the prompts of the training split."""
        sampling = Sampling(
            temperature=asked.temperature,
            max_new_tokens=max_tokens,
            end_token_ids=end_tokens(teacher.model, data.tokenizer, data.facts.end_of_turn),
            pad_token_id=data.facts.pad_token_id,
            top_p=asked.top_p,
        )
        sampler = ModelSampler(teacher, sampling, numerics)
        # Numbers of its own, so that the teacher shares its luck with no student.
        seed = (asked.seed, Author.TEACHER)
        return TextWriter(data.splits["train"], sampler, Author.TEACHER, seed)

    def write_responses(self, data: Path, samples: Sequence[Sample], folder: Path) -> None:
        """Writes the data with `samples` behind their prompts as its training split."""
        writing.write_responses(data, samples, folder)

    def save(self, model: Any, data: TokenData, folder: Path) -> None:
        """Writes a Hugging Face folder with the tokenizer in it."""
        model.save_pretrained(folder)
        data.tokenizer.save_pretrained(folder)
        tokenizer.forget_place(folder)
