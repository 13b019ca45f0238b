"""Tiny models of the families that adapters are tried with, and adapters that say something."""

from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

TOKENS = {"vocab_size": 40, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
LLAMA = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32}
HEADS = {"num_attention_heads": 2, "max_position_embeddings": 32}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 32, "resid_pdrop": 0.0},
    "llama": {**LLAMA, **HEADS},
    "opt": {
        "num_hidden_layers": 2,
        "hidden_size": 16,
        "ffn_dim": 32,
        "word_embed_proj_dim": 16,
        **HEADS,
    },
    "gpt_neox": {**LLAMA, **HEADS},
    "llama, tied": {**LLAMA, **HEADS, "tie_word_embeddings": True},
}
IDS = torch.arange(24).view(2, 12)


def save_base(folder: Path, family: str = "gpt2", seed: int = 0, **changed: Any) -> Path:
    """Writes a tiny model of the family, drawn from the seed."""
    torch.manual_seed(seed)
    values = FAMILIES[family] | TOKENS | changed
    config = CONFIG_MAPPING[family.split(",")[0]](**values)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def open_base(folder: Path) -> Any:
    """The model in a folder, as transformers opens it."""
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def train_a_little(model: Any, seed: int = 5) -> Any:
    """Moves what is trained away from where it was, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    """What a model says of some tokens."""
    found: torch.Tensor = model(input_ids=IDS).logits
    return found
