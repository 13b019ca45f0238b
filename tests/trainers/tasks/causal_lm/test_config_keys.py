"""The keys of a config that a sweep gives: those that transformers still takes by older names, and
those that it would keep without a word."""

from copy import deepcopy
from typing import Any

import pytest

from trainers.tasks.causal_lm.building import describe

SIZES = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    ("model_type", "older", "now"),
    [
        ("llama", {"rope_theta": 5e5}, {"rope_parameters": {"rope_theta": 5e5}}),
        (
            "llama",
            {"rope_scaling": LLAMA_3, "rope_theta": 5e5},
            {"rope_parameters": LLAMA_3 | {"rope_theta": 5e5}},
        ),
        (
            "llama",
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0}},
        ),
        ("llama", {"rope_scaling": None}, {}),
        ("mistral", {"rope_theta": 10000.0}, {}),
        ("phi", {"partial_rotary_factor": 0.25}, {"rope_parameters": {"rope_theta": 10000.0}}),
        ("gpt_neox", {"rotary_pct": 0.5, "rotary_emb_base": 50000}, {}),
        ("qwen2", {"torch_dtype": "bfloat16"}, {"dtype": "bfloat16"}),
        ("qwen2", {"_name_or_path": "Qwen/Qwen2", "auto_map": {"AutoConfig": "x.Y"}}, {}),
        ("llama", {"architectures": ["LlamaForCausalLM"], "transformers_version": "4.45.0"}, {}),
    ],
)
def test_older_names_mean_what_they_meant(
    model_type: str, older: dict[str, Any], now: dict[str, Any]
) -> None:
    base = {"model_type": model_type, **SIZES}
    if model_type in ("mistral", "qwen2"):  # whose own number of heads does not go with 4
        base["num_key_value_heads"] = 2
    given = {**base, **older}
    before = deepcopy(given)
    config, count, *_ = describe(given, "student", 300)
    assert given == before, "what was given decides a key, so it stays as it was"
    expected, same, *_ = describe({**base, **now}, "student", 300)
    assert count == same
    assert config["hidden_size"] == expected["hidden_size"] == 64
    if model_type in ("llama", "mistral"):
        for name in ("rope_theta", "rope_type", "factor", "low_freq_factor"):
            assert config["rope_parameters"].get(name) == expected["rope_parameters"].get(name)
    if model_type == "phi":
        assert config["rope_parameters"]["partial_rotary_factor"] == 0.25
    if model_type == "gpt_neox":
        assert config["rope_parameters"]["rope_theta"] == 50000
        assert config["rope_parameters"]["partial_rotary_factor"] == 0.5
    if model_type == "qwen2":
        assert config["dtype"] == expected["dtype"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hiden_size", 64, "heeds in a llama, but got 'hiden_size'. Did you mean 'hidden_size'"),
        ("rope_thet", 1.0, "but got 'rope_thet'"),
        ("use_mrope", False, "but got 'use_mrope'. Correct or remove what has no effect"),
        ("n_layer", 2, "but got 'n_layer'"),
    ],
)
def test_keys_without_an_effect_are_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        describe({"model_type": "llama", **SIZES, key: value}, "student", 300)


def test_all_keys_without_an_effect_are_named_at_once() -> None:
    given = {"model_type": "gpt2", "n_ctx": 1024, "task_specific_params": {"a": {}}}
    with pytest.raises(ValueError, match="student.config: .*'n_ctx', 'task_specific_params'"):
        describe(given, "student", 300)


def test_a_wrong_value_under_an_older_name_is_named() -> None:
    given = {"model_type": "llama", **SIZES, "rope_scaling": {"type": "lineal", "factor": 2.0}}
    with pytest.raises(ValueError, match=r"student\.config\.rope_scaling: it must fit llama"):
        describe(given, "student", 300)
