"""LoRA by peft: students that train low-rank matrices beside frozen weights. Importing this file
imports peft, which takes seconds; only what has an adapter does."""

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from transformers.pytorch_utils import Conv1D

from trainers.students.folders import WEIGHTS
from trainers.students.sharing import sharing_weights
from trainers.students.targets import target_names
from trainers.trial.adapters import Adapter


def with_adapter(start: Any, adapter: Adapter, *, seed: int) -> Any:
    """Returns a model that trains `adapter` beside the weights of `start`, which it shares, frozen,
    and does not change; at first it says what `start` says. A is drawn from `seed` alone, on the
    CPU, and B is zero. Raises `ValueError` as `target_names`."""
    names = target_names(start, adapter.targets)
    model = sharing_weights(start)
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.known_alpha,
        lora_dropout=adapter.dropout,
        target_modules=list(adapter.targets or names),
        # GPT-2's layers hold their matrices the other way round
        fan_in_fan_out=any(isinstance(model.get_submodule(name), Conv1D) for name in names),
        task_type="CAUSAL_LM" if model.can_generate() else None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.add_adapter(config)
    for parameter in model.parameters():
        if parameter.requires_grad:  # a sum of small steps, which bfloat16 would round away
            parameter.data = parameter.data.float()
    return model


def loaded(base: Any, folder: Path) -> Any:
    """Returns `base` with the adapter in `folder` beside its weights, in evaluation mode. Raises
    `ValueError` where the adapter is not of such a model."""
    return _attached(base, folder).get_base_model().eval()


def merged(base: Any, folder: Path) -> Any:
    """Returns `base` with the adapter in `folder` added to its weights: a whole model. Raises
    `ValueError` as `loaded`."""
    return _attached(base, folder).merge_and_unload(safe_merge=True)


def _attached(base: Any, folder: Path) -> PeftModel:
    place = f"{folder}: an adapter's base must be a model like the one that it was trained beside"
    try:
        with warnings.catch_warnings():
            # peft asks transformers by a name that a later one will not have
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # refused below
            model = PeftModel.from_pretrained(base, str(folder))
    except (ValueError, RuntimeError, KeyError) as error:  # of other layers, of other sizes
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{place}, but got: {reason}. Name its own base.") from error
    wanted = {name for name in get_peft_model_state_dict(model) if "lora_" in name}
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        found = {name for name in file.keys() if "lora_" in name}
    if wanted != found:
        odd = sorted(wanted ^ found)[0]
        where = "not of the base" if odd in found else "of the base alone"
        raise ValueError(f"{place}, but {odd} is {where}. Name its own base.")
    return model
