"""Language models that read a soft prompt: vectors that stand to the left of each text, as if they
were embeddings of tokens there."""

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from trainers.tasks.causal_lm.batches import TokenBatch
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.tasks.causal_lm.steps import num_positions


@dataclass(frozen=True)
class PromptedModel:
    """A language model behind vectors that start as the embeddings of `token_ids`. See
    `trainers.teachers.prompted.BehindPrompt`."""

    network: LanguageModel
    token_ids: list[int]

    @cached_property
    def start(self) -> Tensor:
        """The embeddings [M, E]."""
        embeddings = self.network.model.get_input_embeddings()
        ids = torch.tensor(self.token_ids, device=embeddings.weight.device)
        with torch.no_grad():
            return embeddings(ids)  # type: ignore[no-any-return]

    def hidden(self, prompt: Tensor, batch: TokenBatch) -> Tensor:
        """Returns the hidden states [N, D] at the batch's positions. The text's own positions begin
        behind the prompt, and its padding is on the right, where no token looks."""
        text = self.network.model.get_input_embeddings()(batch.input_ids)
        before = prompt.to(text.dtype).expand(len(text), -1, -1)
        read = torch.cat([before, text], dim=1)
        hidden: Tensor = self.network.body(inputs_embeds=read, use_cache=False).last_hidden_state
        # Row r has the prompt's M columns before its T: they, and those of the rows before, count.
        rows = batch.positions // batch.input_ids.shape[1]
        places = batch.positions + (rows + 1) * len(prompt)
        return hidden.flatten(0, 1).to(places.device).index_select(0, places)


def prompted(
    network: LanguageModel, tokenizer: Any, *, text: str, num_tokens: int, max_tokens: int
) -> PromptedModel:
    """Returns `network` behind `num_tokens` vectors that start as `text`'s embeddings, cut or
    repeated to that number, for texts of up to `max_tokens`. Raises `ValueError` where it cannot
    read them."""
    model, place = network.model, f"soft_prompt_tokens: {type(network.model).__name__}"
    if "inputs_embeds" not in inspect.signature(network.body.forward).parameters:
        raise ValueError(
            f"{place} must take vectors in place of tokens (inputs_embeds), but its forward does "
            "not. Use another teacher, or soft_prompt_tokens: 0."
        )
    check_room(num_tokens, max_tokens, num_positions(model), place=place)
    ids = tokenizer.encode(text, add_special_tokens=False)
    if not ids:
        raise ValueError(
            f"soft_prompt_text: it must have tokens to start from, but the tokenizer makes none "
            f"of {text!r}. Use other text."
        )
    repeats = -(-num_tokens // len(ids))
    return PromptedModel(network, (list(ids) * repeats)[:num_tokens])


def check_room(num_tokens: int, max_tokens: int, limit: int, *, place: str) -> None:
    """Raises `ValueError` where the longest example does not fit behind the prompt."""
    if num_tokens + max_tokens > limit:
        raise ValueError(
            f"{place} must have room for the prompt before an example of max_tokens, but got "
            f"{num_tokens} + {max_tokens} > {limit} positions. Use fewer, or a smaller "
            "data.max_tokens."
        )
