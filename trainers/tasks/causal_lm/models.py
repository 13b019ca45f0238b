"""Loads causal language models and takes them apart: body, then one matrix that makes logits."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.activations import NewGELUActivation
from transformers.utils import logging

from trainers.signal import OutputHead
from trainers.students.folders import is_adapter
from trainers.tasks.adapters import load_with_base
from trainers.tasks.causal_lm.batches import TokenBatch
from trainers.tasks.causal_lm.vocabulary import check_rows

# Relative to the largest logit: two ways to the same float32 product differ by far less.
HEAD_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 1e-2}


def load(
    folder: Path,
    *,
    attention: str | None,
    dtype: torch.dtype,
    trust: bool = False,
    device_map: str | None = None,
) -> Any:
    """Returns the causal language model in `folder`, or that of its adapter and its base, in
    evaluation mode, on the CPU or where transformers' `device_map` puts it. The folder's weights
    are never unpickled here: `prepare` refused or allowed that before."""
    quieten()
    if is_adapter(folder):
        whole = partial(load, attention=attention, dtype=dtype, trust=trust, device_map=device_map)
        return load_with_base(folder, whole, trust=trust)
    options = {} if attention is None else {"attn_implementation": attention}
    if device_map is not None:
        options["device_map"] = device_map
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, trust_remote_code=trust, local_files_only=True, **options
    )
    _fuse_gelu(model)
    return model.eval()


def load_on(
    device: torch.device,
    folder: Path,
    *,
    attention: str | None,
    dtype: torch.dtype,
    trust: bool = False,
    gpus: int = 1,
) -> Any:
    """Returns the model in `folder` on `device`, or, with several `gpus`, with some of its layers
    on each GPU that this process sees. Raises `ValueError` where that needs what is not there."""
    if gpus == 1:
        return load(folder, attention=attention, dtype=dtype, trust=trust).to(device)
    rule = f"teacher_cache.gpus: a teacher spread over {gpus} GPUs needs"
    if torch.cuda.device_count() < gpus:
        raise ValueError(f"{rule} as many here, but got {torch.cuda.device_count()}.")
    model = load(folder, attention=attention, dtype=dtype, trust=trust, device_map="auto")
    # transformers says nothing where it leaves layers on the CPU or the disk, which is much slower
    outside = {str(place) for place in model.hf_device_map.values()} & {"cpu", "disk"}
    if outside:
        raise ValueError(
            f"{rule} room for all layers, but some are left on {', '.join(sorted(outside))}. "
            "Use more GPUs."
        )
    return model


def _fuse_gelu(model: nn.Module) -> None:
    """Replaces GPT-2's GELU, which is written out in eight operations, each a pass over memory and
    half of them in float32 under autocast: torch's own is the same function in one."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def quieten() -> None:
    """Turns off progress bars of the libraries, and their hint to mask padding (see
    `hidden_states`)."""
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
    """Returns the output head over the real vocabulary, where the model takes its tokens: padding
    rows beyond `vocab_size` are cut."""
    layer = model.get_output_embeddings()
    config = model.config.get_text_config()
    # Views, not copies: the student's head is trained through them, also where it is tied to the
    # embedding of the inputs.
    bias = getattr(layer, "bias", None)
    device = model.get_input_embeddings().weight.device  # another one only if the model is spread
    return OutputHead(
        weight=_first(layer.weight, vocab_size).to(device),
        bias=None if bias is None else _first(bias, vocab_size).to(device),
        soft_cap=getattr(config, "final_logit_softcapping", None),
        scale=_scale(config),
    )


def _first(rows: Tensor, count: int) -> Tensor:
    """Without a slice where all rows are wanted: its gradient would be a second tensor as large as
    the matrix."""
    return rows if len(rows) == count else rows[:count]


def _scale(config: Any) -> float:
    """Cohere multiplies its logits, Granite divides them, Falcon-H1 calls the factor by a third
    name."""
    factor = getattr(config, "logit_scale", None) or getattr(config, "lm_head_multiplier", None)
    divisor = getattr(config, "logits_scaling", None)
    return float(factor or 1.0) / float(divisor or 1.0)


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model taken apart; see `trainers.parts.Network`. `body` is a part of
    `model`, found once."""

    model: Any
    body: nn.Module
    vocab_size: int

    @classmethod
    def of(cls, model: Any, vocab_size: int) -> "LanguageModel":
        """Returns `model` taken apart, its logits cut to `vocab_size`. Raises `ValueError` for a
        model with fewer rows, and as `body_of` does."""
        body = body_of(model)
        rows = {type(model).__name__: len(model.get_output_embeddings().weight)}
        check_rows(rows, vocab_size)
        return cls(model, body, vocab_size)

    def hidden(self, batch: TokenBatch) -> Tensor:
        """Returns the hidden states [N, D] at the batch's positions."""
        return hidden_states(self.body, batch.input_ids).index_select(0, batch.positions)

    def head(self) -> OutputHead:
        """Returns the output head, a view on the model's weights."""
        return head_of(self.model, self.vocab_size)


def hidden_size(folder: Path, *, trust: bool = False) -> int:
    """Returns the width of the last hidden states of the model in `folder`, from its config. Rows
    of the output head are as long, whatever the config calls it."""
    whole = AutoConfig.from_pretrained(folder, trust_remote_code=trust, local_files_only=True)
    config = whole.get_text_config()
    projected = getattr(config, "word_embed_proj_dim", None)
    return int(projected or config.hidden_size)


def hidden_states(body: nn.Module, input_ids: Tensor) -> Tensor:
    """Returns the last hidden states [B * T, D] of right-padded token ids [B, T], on their device.
    No mask is needed: under causal attention no real token looks at the padding behind it."""
    hidden: Tensor = body(input_ids=input_ids, use_cache=False).last_hidden_state
    return hidden.flatten(0, 1).to(input_ids.device)


@torch.no_grad()
def check_head(model: Any, input_ids: Tensor, vocab_size: int) -> None:
    """Compares `head(hidden)` with the model's own logits on some tokens [B, T]. Raises
    `ValueError` when they differ: then the model does more after its body than one matrix, and the
    loss would be wrong."""
    own = model(input_ids=input_ids, use_cache=False).logits.flatten(0, 1)[:, :vocab_size].float()
    ours = head_of(model, vocab_size).logits(hidden_states(body_of(model), input_ids)).float()
    own = own.to(ours.device)
    error = ((own - ours).abs().max() / own.abs().max().clamp_min(1e-30)).item()
    allowed = HEAD_TOLERANCE.get(model.dtype, 4e-2)
    if not error <= allowed:  # written so that NaN is refused too
        raise ValueError(
            f"{type(model).__name__}: its logits must be one matrix times the last hidden state "
            f"(relative difference ≤ {allowed}), but got {error:.2g}. It cannot be distilled here."
        )


@torch.no_grad()
def check_causal(model: Any, input_ids: Tensor, vocab_size: int) -> None:
    """Raises `ValueError` when a model's hidden states at some tokens [B, T] change with the tokens
    behind them: it would read the answer that it is asked for."""
    changed = input_ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % vocab_size
    one, other = (
        hidden_states(body_of(model), ids).view(*ids.shape, -1)[:, :-1].float()
        for ids in (input_ids, changed)
    )
    if not one.numel():
        return
    error = ((one - other).abs().max() / one.abs().max().clamp_min(1e-30)).item()
    if not error <= HEAD_TOLERANCE.get(model.dtype, 4e-2):  # written so that NaN is refused too
        raise ValueError(
            f"{type(model).__name__}: a token's hidden state must depend on it and those before it "
            f"alone, but it changes with the next ones (by {error:.2g}). Use a causal language "
            "model; some become one by is_decoder: true in their config."
        )
