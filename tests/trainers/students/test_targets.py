"""Which layers an adapter is beside."""

from pathlib import Path

import pytest
from adapter_support import open_base, save_base
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForImageClassification,
    GPT2Config,
    GPT2LMHeadModel,
    ResNetConfig,
    ViTConfig,
)

from trainers.students.targets import numbers_per_rank, target_names


def test_by_default_all_linear_layers_but_the_head(tmp_path: Path) -> None:
    found = target_names(open_base(save_base(tmp_path)), None)
    ends = {name.split("h.")[1][2:] for name in found}
    assert ends == {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}
    assert len(found) == 8


def test_a_target_is_the_whole_name_or_its_end(tmp_path: Path) -> None:
    model = open_base(save_base(tmp_path, "llama"))
    assert target_names(model, ("q_proj", "model.layers.1.mlp.up_proj")) == [
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.mlp.up_proj",
        "model.layers.1.self_attn.q_proj",
    ]


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("q_prj", "'q_prj' matches none. Did you mean 'q_proj'.*Known here: down_proj, gate_p"),
        ("roj", "'roj' matches none"),
        ("embed_tokens", "'embed_tokens' matches none"),
        ("lm_head", "none may match the head, .* but 'lm_head' does"),
    ],
)
def test_what_matches_no_layer_or_the_head_is_refused(
    tmp_path: Path, target: str, problem: str
) -> None:
    model = open_base(save_base(tmp_path, "llama"))
    with pytest.raises(ValueError, match=rf"^student.adapter.targets: .*{problem}"):
        target_names(model, ("v_proj", target))


def test_a_convnet_has_no_linear_layer_but_its_last_and_a_vision_transformer_has() -> None:
    resnet = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=5, layer_type="basic"
    )
    with pytest.raises(ValueError, match=r"^student.fit.adapter: .* has none beside its head. Tr"):
        target_names(
            AutoModelForImageClassification.from_config(resnet), None, "student.fit.adapter"
        )
    vit = ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
        num_labels=5,
    )
    found = target_names(AutoModelForImageClassification.from_config(vit), None)
    assert len(found) == 6 and "classifier" not in found


@pytest.mark.parametrize("targets", [None, ("c_attn",)])
def test_an_adapter_has_so_many_numbers_for_each_rank(targets: tuple[str, ...] | None) -> None:
    config = GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=30)
    names = target_names(GPT2LMHeadModel(config), targets)
    counted = numbers_per_rank(GPT2LMHeadModel(config), names)
    made = get_peft_model(
        GPT2LMHeadModel(config), LoraConfig(r=3, target_modules=names, fan_in_fan_out=True)
    )
    trained = sum(one.numel() for one in made.parameters() if one.requires_grad)
    assert trained == 3 * counted
