"""What training a language model keeps, guessed from its config, against what autograd saves."""

from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from trainers.tasks.causal_lm import activations
from trainers.trial.facts import Activations

BATCH, LENGTH = 2, 48
GPT2: dict[str, Any] = {
    "n_layer": 3,
    "n_embd": 64,
    "n_head": 4,
    "n_positions": LENGTH,
    "vocab_size": 90,
}
LLAMA = {
    "num_hidden_layers": 3,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 176,
    "vocab_size": 90,
}
# As trials have it: `models.load` replaces the activation that transformers writes out.
GPT2["activation_function"] = "gelu_pytorch_tanh"
NO_DROPOUT = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}


def saved(model: Any, **options: Any) -> int:
    """Bytes that the body's forward pass keeps for its backward pass."""
    kept: dict[int, Any] = {}
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in own:
            kept[memory.data_ptr()] = tensor
        return tensor

    ids = torch.randint(0, 90, (BATCH, LENGTH))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    assert output.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize(
    ("kind", "config", "attention"),
    [
        ("gpt2", GPT2 | NO_DROPOUT, "sdpa"),
        ("gpt2", GPT2 | NO_DROPOUT, "eager"),
        ("gpt2", GPT2, "sdpa"),
        ("llama", LLAMA, "sdpa"),
        ("llama", LLAMA, "eager"),
    ],
)
def test_the_guess_is_near_what_is_saved(kind: str, config: Any, attention: str) -> None:
    tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0)
    made = CONFIG_MAPPING[kind](**config, **tokens)
    model = AutoModelForCausalLM.from_config(made, attn_implementation=attention).train()
    guess = activations.guess(model.config.to_dict())
    assert guess is not None
    has_pairs = attention == "eager" or guess.drops_attention
    numbers = guess.numbers(LENGTH, has_pairs=has_pairs, is_recomputed=False)
    assert BATCH * LENGTH * numbers * 4 == pytest.approx(saved(model), rel=0.35)


def test_a_config_that_does_not_say_is_not_guessed() -> None:
    assert activations.guess({"model_type": "gpt2", "n_embd": 64}) is None


def test_recomputing_keeps_the_inputs_of_layers_and_one_layer() -> None:
    layers = Activations(layers=10, per_position=17, per_pair=2, layer_input=1, outside=4)
    assert layers.numbers(8, has_pairs=False, is_recomputed=False) == 4 + 170
    assert layers.numbers(8, has_pairs=True, is_recomputed=False) == 4 + 330
    assert layers.numbers(8, has_pairs=False, is_recomputed=True) == 4 + 10 + 17
    whole = Activations(layers=1, per_position=17)
    assert whole.numbers(1, has_pairs=False, is_recomputed=True) == 17
