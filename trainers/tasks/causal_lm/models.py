"""Loads causal language models and takes them apart: body, then one matrix that makes logits."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainers.signal import OutputHead

# Relative to the largest logit: two ways to the same float32 product differ by far less.
HEAD_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 1e-2}


def load(folder: Path, *, attention: str | None, dtype: torch.dtype, trust: bool = False) -> Any:
    """Returns the causal language model in `folder` on the CPU, in evaluation mode. The folder's
    weights are never unpickled here: `prepare` refused or allowed that before."""
    from transformers import AutoModelForCausalLM

    quieten()

    options = {} if attention is None else {"attn_implementation": attention}
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, trust_remote_code=trust, local_files_only=True, **options
    )
    return model.eval()


def quieten() -> None:
    """Turns off progress bars of the libraries, and their hint to mask padding (see
    `hidden_states`)."""
    import datasets
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    datasets.disable_progress_bars()


def body_of(model: Any) -> nn.Module:
    """Returns the part that makes hidden states. Raises `ValueError` for a model that is not body
    plus head."""
    body = model.base_model
    if body is model or model.get_output_embeddings() is None:
        raise ValueError(
            f"{type(model).__name__} must be a body with one output matrix, but it has none. "
            "Use a causal language model of transformers."
        )
    return body  # type: ignore[no-any-return]


def head_of(model: Any, vocab_size: int) -> OutputHead:
    """Returns the output head over the real vocabulary: padding rows beyond `vocab_size` are
    cut."""
    layer = model.get_output_embeddings()
    config = model.config.get_text_config()
    bias = getattr(layer, "bias", None)
    return OutputHead(
        weight=layer.weight[:vocab_size],
        bias=None if bias is None else bias[:vocab_size],
        soft_cap=getattr(config, "final_logit_softcapping", None),
        scale=_scale(config),
    )


def _scale(config: Any) -> float:
    """Cohere multiplies its logits, Granite divides them, Falcon-H1 calls the factor by a third
    name."""
    factor = getattr(config, "logit_scale", None) or getattr(config, "lm_head_multiplier", None)
    divisor = getattr(config, "logits_scaling", None)
    return float(factor or 1.0) / float(divisor or 1.0)


def hidden_states(body: nn.Module, input_ids: Tensor) -> Tensor:
    """Returns the last hidden states [B * T, D] of right-padded token ids [B, T]. No mask is
    needed: under causal attention no real token looks at the padding behind it."""
    hidden: Tensor = body(input_ids=input_ids, use_cache=False).last_hidden_state
    return hidden.flatten(0, 1)


@torch.no_grad()
def check_head(model: Any, input_ids: Tensor, vocab_size: int) -> None:
    """Compares `head(hidden)` with the model's own logits on some tokens [B, T]. Raises
    `ValueError` when they differ: then the model does more after its body than one matrix, and the
    loss would be wrong."""
    own = model(input_ids=input_ids, use_cache=False).logits.flatten(0, 1)[:, :vocab_size].float()
    ours = head_of(model, vocab_size).logits(hidden_states(body_of(model), input_ids)).float()
    error = ((own - ours).abs().max() / own.abs().max().clamp_min(1e-30)).item()
    allowed = HEAD_TOLERANCE.get(model.dtype, 4e-2)
    if not error <= allowed:
        raise ValueError(
            f"{type(model).__name__}: its logits must be one matrix times the last hidden state "
            f"(relative difference ≤ {allowed}), but got {error:.2g}. It cannot be distilled here."
        )
