"""Makes models from configs."""

from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

from trainers import numerics
from trainers.nearest import nearest
from trainers.tasks.causal_lm.models import quieten
from trainers.tasks.causal_lm.vocabulary import num_entries
from trainers.trial.sources import ModelSource

SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def initialise(source: ModelSource, role: str, tokenizer_folder: Path, folder: Path) -> None:
    """Writes into `folder` a model with the architecture of `source.config`, weights drawn from
    `source.init_seed`. Vocabulary size and special tokens come from the tokenizer unless given.
    Raises `ValueError` for a model type or key that transformers does not know."""
    quieten()
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
    assert source.config is not None
    given = {"vocab_size": num_entries(tokenizer), **source.config}
    for name in SPECIAL_TOKENS:
        token = getattr(tokenizer, name, None)
        given.setdefault(name, tokenizer.eos_token_id if token is None else token)
    config = _config(given, role)
    numerics.seed_all(source.init_seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def _config(given: dict[str, Any], role: str) -> Any:
    model_type = given["model_type"]
    if model_type not in CONFIG_MAPPING:
        known = sorted(CONFIG_MAPPING.keys())
        raise ValueError(
            f"{role}.config.model_type: it must be one that transformers knows, "
            f"but got '{model_type}'.{nearest(model_type, known)}"
        )
    kind = CONFIG_MAPPING[model_type]
    names = set(kind().to_dict()) | set(kind.attribute_map)
    unknown = sorted(set(given) - names)
    if unknown:
        raise ValueError(
            f"{role}.config: every key must be one of {model_type}'s config, "
            f"but got '{unknown[0]}'.{nearest(unknown[0], sorted(names))}"
        )
    return kind(**{name: value for name, value in given.items() if name != "model_type"})
