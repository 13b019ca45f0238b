"""Makes models from configs, and says what a config would make without making it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from trainers import numerics
from trainers.nearest import nearest
from trainers.tasks import locate
from trainers.tasks.building import ConfigBuild, check_sizes
from trainers.tasks.causal_lm.models import body_of, quieten
from trainers.tasks.causal_lm.vocabulary import check_rows, num_entries
from trainers.trial.facts import ModelFacts
from trainers.trial.sources import ModelSource

SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def initialise(source: ModelSource, role: str, tokenizer: Any, folder: Path) -> None:
    """Writes into `folder` a model with the architecture of `source.config`, weights drawn from
    `source.init_seed`. Vocabulary size and special tokens come from the tokenizer unless given.
    Raises `ValueError` for a config that makes no such model, naming the field."""
    quieten()
    assert source.config is not None
    given = {"vocab_size": num_entries(tokenizer), **source.config}
    for name in SPECIAL_TOKENS:
        token = getattr(tokenizer, name, None)
        given.setdefault(name, tokenizer.eos_token_id if token is None else token)
    config = _built(given, role).config
    numerics.seed_all(source.init_seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def describe(given: Mapping[str, Any], role: str, vocab_size: int | None) -> ModelFacts:
    """Returns the complete config that `given` stands for with a tokenizer of `vocab_size` entries,
    and the number of parameters of the model. Nothing is computed and no memory taken. Raises
    `ValueError` as `initialise` does."""
    quieten()
    sized = {} if vocab_size is None else {"vocab_size": vocab_size}
    # any token does where the tokenizer is not known yet
    model = _built({**dict.fromkeys(SPECIAL_TOKENS, 0), **sized, **given}, role)
    check_rows({role: len(model.get_output_embeddings().weight)}, vocab_size)
    return ModelFacts(model.config.to_dict(), int(model.num_parameters()))


def outline(source: ModelSource, role: str) -> Any:
    """Returns the model that `source` names or makes on the meta device: shapes without numbers.
    Raises `ValueError` as `initialise` does."""
    quieten()
    if source.config is not None:
        return _built({**dict.fromkeys(SPECIAL_TOKENS, 0), **source.config}, role)
    folder, trust = locate.whole_folder(source, role, with_weights=False), source.trust_remote_code
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust, local_files_only=True)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust)


def _built(given: dict[str, Any], role: str) -> Any:
    """The model of a config on the meta device: shapes without numbers."""
    _check_type(given["model_type"], role)
    build = ConfigBuild(given, role, AutoModelForCausalLM, never_wrong=SPECIAL_TOKENS)
    model = build.model(lambda config: _check_heads(config, given, role))
    body_of(model)
    _check_causal(model.config, given["model_type"], role)
    return model


def _check_type(model_type: Any, role: str) -> None:
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        known = sorted(CONFIG_MAPPING.keys())
        near = nearest(model_type, known) if isinstance(model_type, str) else ""
        raise ValueError(
            f"{role}.config.model_type: it must be one that transformers knows, "
            f"but got {model_type!r:.80}.{near}"
        )
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ValueError(
            f"{role}.config.model_type: it must be one of a causal language model (gpt2, llama, "
            f"qwen2, …), but got '{model_type}'."
        )


def _check_heads(config: Any, given: Mapping[str, Any], role: str) -> None:
    """Refuses what builds and is none: a number of layers below zero makes no layers, and heads
    that share keys unevenly fail at the first batch."""
    check_sizes(config, given, role)
    text = config.get_text_config()
    heads, groups = (
        getattr(text, name, None) for name in ("num_attention_heads", "num_key_value_heads")
    )
    if isinstance(heads, int) and isinstance(groups, int) and heads % groups:
        raise ValueError(
            f"{role}.config.num_key_value_heads: it must divide num_attention_heads={heads}, "
            f"but got {groups}."
        )


def _check_causal(config: Any, model_type: str, role: str) -> None:
    """Refuses models that see the tokens to come: those that also fill in masked ones, unless they
    are told to be decoders."""
    if model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        raise ValueError(
            f"{role}.config.model_type: it must be one of a causal language model, but a "
            f"{model_type} sees the tokens to come. Set is_decoder: true, or take another type."
        )
