"""A soft prompt before a language model's text: read as tokens there would be."""

from typing import Any

import numpy as np
import pytest
import torch
from families_support import FAMILIES, VOCAB_SIZE, make

from trainers.tasks.causal_lm.batches import collate
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.tasks.causal_lm.soft_prompts import PromptedModel, prompted

BEFORE = [7, 3, 21]
TEXTS = ([5, 6, 7, 8, 9, 10, 11], [30, 31, 32, 33], [12, 13, 14, 15, 16])


class Words:
    """A tokenizer that knows one text."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens, "a prompt begins no document"
        return {"be a student": [1, 2, 3], "␀": []}[text]


def read_alone(model: Any, ids: list[int]) -> torch.Tensor:
    body = model.base_model
    hidden: torch.Tensor = body(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state
    return hidden[0]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_vectors_that_are_embeddings_are_read_as_their_tokens(family: str) -> None:
    model = make(family)
    rows = [(np.array(ids, np.int32), np.arange(len(ids)) >= 2) for ids in TEXTS]
    # of unequal lengths, so that two rows have padding behind them
    batch = collate("train", np.arange(3), rows, pad_token_id=0)
    reader = PromptedModel(LanguageModel.of(model, VOCAB_SIZE), BEFORE)
    with torch.no_grad():
        found = reader.hidden(reader.start, batch)
        whole = [read_alone(model, [*BEFORE, *ids[:-1]])[len(BEFORE) + 1 :] for ids in TEXTS]
    torch.testing.assert_close(found, torch.cat(whole), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("num", "ids"), [(2, [1, 2]), (3, [1, 2, 3]), (7, [1, 2, 3, 1, 2, 3, 1])])
def test_it_starts_from_a_text_that_is_cut_or_repeated(num: int, ids: list[int]) -> None:
    network = LanguageModel.of(make("opt", word_embed_proj_dim=8), VOCAB_SIZE)
    reader = prompted(network, Words(), text="be a student", num_tokens=num, max_tokens=50)
    table = network.model.get_input_embeddings().weight.detach()
    assert reader.start.shape == (num, 8), "as wide as what the model reads"
    assert torch.equal(reader.start, table[ids])


def test_a_teacher_that_cannot_read_it_is_refused() -> None:
    network = LanguageModel.of(make("gpt2"), VOCAB_SIZE)
    with pytest.raises(ValueError, match=r"room for the prompt .* got 10 \+ 55 > 64 positions"):
        prompted(network, Words(), text="be a student", num_tokens=10, max_tokens=55)
    with pytest.raises(ValueError, match="soft_prompt_text: it must have tokens .* none of '␀'"):
        prompted(network, Words(), text="␀", num_tokens=1, max_tokens=8)

    class OfTokensAlone(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return input_ids

    deaf = LanguageModel(network.model, OfTokensAlone(), VOCAB_SIZE)
    with pytest.raises(ValueError, match="must take vectors in place of tokens .* does not"):
        prompted(deaf, Words(), text="be a student", num_tokens=1, max_tokens=8)
