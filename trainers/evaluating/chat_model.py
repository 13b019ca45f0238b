"""A language model of transformers that answers prompts in this process, each by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from trainers.tasks import locate, weights
from trainers.trial.sources import ModelSource

NEW_TOKENS = 512  # of an answer: a verdict comes last, behind its reasons
BATCH_SIZE = 8


@dataclass(frozen=True)
class ChatModel:
    """A causal language model in `folder`. A prompt is the user's turn in its tokenizer's chat
    template, or plain text where it has none; answers are greedy."""

    folder: Path

    @classmethod
    def named(cls, name: str, role: str) -> "ChatModel":
        """Returns the model that `name` (a folder, or one of the Hugging Face hub) means; its
        weights are not read yet. `role` names it in errors. Raises `ValueError` for a folder that
        is no causal language model of transformers, and a hub that does not give it."""
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        source = ModelSource(model=name)
        folder = locate.model_folder(source, role)
        weights.check_no_adapter(folder, f"{role}.model")
        model_type = locate.read_config(folder).get("model_type")
        if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            raise ValueError(
                f"{role}.model: '{name}' must be a causal language model that transformers knows, "
                f"but got a {model_type!r:.40}. Name another one."
            )
        return cls(folder)

    @property
    def has_template(self) -> bool:
        """Whether prompts are put into a chat template."""
        return bool(self._tokenizer.chat_template)

    def check(self, prompts: Sequence[str]) -> None:
        """Raises `ValueError` where a prompt and an answer of `NEW_TOKENS` are longer than the
        model's context, and for a tokenizer or a chat template that does not work."""
        needed = max(map(len, map(self._ids, prompts)), default=0) + NEW_TOKENS
        config = locate.read_config(self.folder)
        context = locate.first_of(config, "max_position_embeddings", "n_positions")
        if context is not None and context < needed:
            raise ValueError(
                f"the model's context must hold the longest prompt and an answer of {NEW_TOKENS} "
                f"tokens, {needed} in all, but {self.folder} takes {context}. Name a model with a "
                "longer context."
            )

    def answer(self, prompts: Sequence[str]) -> list[str]:
        """Returns the answers, in the order of the prompts. Raises `ValueError` as `check`, and
        for weights that are not those of the model."""
        self.check(prompts)
        ids = [self._ids(prompt) for prompt in prompts]
        batches = [ids[start : start + BATCH_SIZE] for start in range(0, len(ids), BATCH_SIZE)]
        return [answer for batch in batches for answer in self._answers(batch)]

    def _ids(self, prompt: str) -> list[int]:
        tokenizer = self._tokenizer
        if not self.has_template:
            return list(tokenizer(prompt)["input_ids"])
        turns = [{"role": "user", "content": prompt}]
        try:
            text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template raises what it likes, and Jinja much more
            raise ValueError(
                f"the chat template in {self.folder} must take a user's turn, but got "
                f"{type(error).__name__}: {error}. Name another model."
            ) from error
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    @torch.no_grad()
    def _answers(self, batch: list[list[int]]) -> list[str]:
        width = max(map(len, batch))
        # padded on the left, so that every row's answer begins in the same column
        padded = torch.tensor([[0] * (width - len(ids)) + ids for ids in batch])
        lengths = torch.tensor([[len(ids)] for ids in batch])
        mask = (torch.arange(width) >= width - lengths).long()
        device = self._model.device
        made = self._model.generate(padded.to(device), attention_mask=mask.to(device))
        ends = set(self._model.generation_config.eos_token_id or ())
        answers = [takewhile(lambda id: id not in ends, row) for row in made[:, width:].tolist()]
        decode = self._tokenizer.decode
        return [str(decode(list(ids), skip_special_tokens=True)) for ids in answers]

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            return AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        except Exception as error:  # whatever a damaged file or the library raises
            raise ValueError(
                f"{self.folder} must have a tokenizer that transformers reads, but got "
                f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}. Save the "
                "model's tokenizer beside it."
            ) from error

    @cached_property
    def _model(self) -> Any:
        try:
            model, report = AutoModelForCausalLM.from_pretrained(
                self.folder, dtype="auto", local_files_only=True, output_loading_info=True
            )
        except Exception as error:  # whatever a wrong shape, the library or the memory raises
            raise ValueError(
                f"{self.folder} must be a model that transformers loads here, but got "
                f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}. Name another one."
            ) from error
        if report["missing_keys"]:
            raise ValueError(
                f"{self.folder} must hold every weight of a {type(model).__name__}, but "
                f"{min(report['missing_keys'])} is missing. Name a model that writes text."
            )
        model.generation_config = self._greedy(model.generation_config)
        return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def _greedy(self, own: GenerationConfig) -> GenerationConfig:
        """What ends an answer, of the model's own settings, and nothing of how it samples."""
        named = own.eos_token_id
        ends = {*(named if isinstance(named, list) else [named]), self._tokenizer.eos_token_id}
        known = sorted(ends - {None})
        return GenerationConfig(
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            eos_token_id=known or None,
            pad_token_id=known[0] if known else 0,
        )
