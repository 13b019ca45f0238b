"""The presets at the size of the papers, planned against published configs: no weights, no hub."""

import json
from pathlib import Path
from typing import Any

import pytest
from training_support import records

from service.actions.plan import plan_sweep
from service.plan.resources import Resources
from service.workspace import Workspace
from trainers.tasks.causal_lm import tokenizer
from trainers.tasks.causal_lm.record import Record

GPT2 = {"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024}
OPT = {"model_type": "opt", "vocab_size": 50272, "max_position_embeddings": 2048}
LLAMA = {"model_type": "llama", "vocab_size": 32000, "tie_word_embeddings": False}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2-xl": {**GPT2, "n_layer": 48, "n_embd": 1600, "n_head": 25},
    "gpt2": {**GPT2, "n_layer": 12, "n_embd": 768, "n_head": 12},
    "facebook/opt-2.7b": {
        **OPT,
        "num_hidden_layers": 32,
        "hidden_size": 2560,
        "word_embed_proj_dim": 2560,
        "ffn_dim": 10240,
        "num_attention_heads": 32,
    },
    "facebook/opt-125m": {
        **OPT,
        "num_hidden_layers": 12,
        "hidden_size": 768,
        "word_embed_proj_dim": 768,
        "ffn_dim": 3072,
        "num_attention_heads": 12,
    },
    "meta-llama/Llama-2-7b-hf": {
        **LLAMA,
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_attention_heads": 32,
        "max_position_embeddings": 4096,
    },
    "TinyLlama/TinyLlama_v1.1": {
        **LLAMA,
        "num_hidden_layers": 22,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "max_position_embeddings": 2048,
    },
    "openlm-research/open_llama_7b_v2": {
        **LLAMA,
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
    },
    "openlm-research/open_llama_3b_v2": {
        **LLAMA,
        "num_hidden_layers": 26,
        "hidden_size": 3200,
        "intermediate_size": 8640,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
    },
}
# learning rate, epochs, batch, hard weight, rank and alpha: as in the papers' scripts
SETTINGS = {
    "gpt2": (5e-4, 20, 32, 0.5, None, None),
    "opt": (5e-5, 20, 8, 0.1, None, None),
    "tinyllama": (1e-3, 10, 32, 0.5, 256, 8),
    "openllama": (5e-4, 10, 8, 0.1, 16, 64),
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Snapshots as the hub gives them without weights, all with one small tokenizer."""
    folder = tmp_path_factory.mktemp("hub")
    texts = [Record(instruction=one["instruction"], response=one["output"]) for one in records(60)]
    for name, config in CONFIGS.items():
        snapshot = folder / f"models--{name.replace('/', '--')}" / "snapshots" / "0123"
        snapshot.mkdir(parents=True)
        tokenizer.train(texts, "alpaca", 300, snapshot)
        (snapshot / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", SETTINGS)
def test_it_is_planned_from_configs_alone(
    name: str, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snapshot(repository: str, **_: Any) -> str:
        return str(hub / f"models--{repository.replace('/', '--')}" / "snapshots" / "0123")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    workspace = Workspace(tmp_path / "home", folder=tmp_path)
    plan = plan_sweep(name, workspace, resources=Resources(num_cpus=8, num_gpus=8))
    config = plan.spec.budget()
    assert (
        config.learning_rate,
        config.epochs,
        config.batch_size,
        plan.spec.loss.hard_weight,
        config.adapter_rank,
        config.adapter_alpha,
    ) == SETTINGS[name]
    assert plan.num_trials == 24 + len(plan.controls)
    assert "to be prepared" in plan.facts.found["teacher"]
    assert not [one for one in plan.warnings if "adapter" in one]
