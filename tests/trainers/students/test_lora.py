"""LoRA beside frozen weights, against peft's and transformers' own ways to open it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_support import FAMILIES, logits, open_base, save_base, train_a_little
from peft import PeftModel

from trainers.students import lora
from trainers.students.folders import write_base
from trainers.trial.adapters import Adapter

RANK4 = Adapter(rank=4, alpha=6)


def save(model: Any, folder: Path, base: Path) -> Path:
    model.save_pretrained(folder)
    write_base(folder, base, fingerprint="unknown", architecture=type(model).__name__)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_says_the_same_beside_its_base_by_peft_and_merged(
    family: str, tmp_path: Path
) -> None:
    base = save_base(tmp_path / "base", family)
    start = open_base(base)
    model = lora.with_adapter(start, RANK4, seed=1)
    assert torch.equal(logits(model.eval()), logits(start))
    train_a_little(model)
    trained = logits(model)
    assert (trained - logits(start)).abs().max() > 1e-3
    folder = save(model, tmp_path / "adapter", base)
    assert torch.equal(logits(PeftModel.from_pretrained(open_base(base), folder).eval()), trained)
    assert torch.equal(logits(lora.loaded(open_base(base), folder)), trained)
    # transformers finds the base by its name in the folder
    assert torch.equal(logits(open_base(folder)), trained)
    lora.merged(open_base(base), folder).save_pretrained(tmp_path / "whole")
    whole = open_base(tmp_path / "whole")
    assert type(whole) is type(start)
    torch.testing.assert_close(logits(whole), trained, atol=1e-5, rtol=1e-5)


def test_a_layer_is_its_matrix_and_alpha_by_rank_times_b_a(tmp_path: Path) -> None:
    start = open_base(save_base(tmp_path, "llama"))
    model = train_a_little(lora.with_adapter(start, RANK4, seed=1))
    layer = model.model.layers[0].mlp.up_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert (a.shape, b.shape) == ((4, 16), (32, 4))
    x = torch.randn(3, 16)
    expected = x @ (start.model.layers[0].mlp.up_proj.weight + 6 / 4 * b @ a).T
    torch.testing.assert_close(layer(x), expected)


def test_only_an_adapters_weights_are_trained_and_the_start_is_shared(tmp_path: Path) -> None:
    start = open_base(save_base(tmp_path, "llama, tied"))
    before = {name: value.clone() for name, value in start.state_dict().items()}
    one, other = (lora.with_adapter(start, RANK4, seed=1) for _ in range(2))
    trained = [name for name, parameter in one.named_parameters() if parameter.requires_grad]
    # seven matrices in each of two layers, two factors each
    assert len(trained) == 28 and all("lora_" in name for name in trained)
    places = {parameter.data_ptr() for parameter in start.parameters()}
    frozen = [parameter for parameter in one.parameters() if not parameter.requires_grad]
    assert {parameter.data_ptr() for parameter in frozen} == places
    assert one.get_output_embeddings().weight is one.get_input_embeddings().weight
    train_a_little(one)
    assert not torch.equal(logits(one), logits(other.eval()))
    assert torch.equal(logits(other), logits(start))
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())
    assert all(parameter.requires_grad for parameter in start.parameters())
    assert not any("lora" in name for name, _ in start.named_modules())


def test_a_seed_decides_the_first_weights_and_leaves_the_random_state(tmp_path: Path) -> None:
    start = open_base(save_base(tmp_path))

    def drawn(seed: int) -> torch.Tensor:
        model = lora.with_adapter(start, RANK4, seed=seed)
        return torch.cat([value.flatten() for value in model.get_adapter_state_dict().values()])

    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first = drawn(1)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, drawn(1))
    assert not torch.equal(first, drawn(2))


def test_beside_bfloat16_an_adapter_is_float32(tmp_path: Path) -> None:
    start = open_base(save_base(tmp_path)).bfloat16()
    model = lora.with_adapter(start, RANK4, seed=1)
    dtypes = {parameter.requires_grad: parameter.dtype for parameter in model.parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"family": "llama"}, "Target modules .* not found in the base model"),
        ({"n_embd": 32}, "size mismatch"),
        ({"n_layer": 1}, r"h\.1\.\S+ is not of the base"),
        ({"n_layer": 3}, r"h\.2\.\S+ is of the base alone"),
    ],
)
def test_a_base_of_another_kind_or_size_is_refused(
    tmp_path: Path, changed: dict[str, Any], problem: str
) -> None:
    base = save_base(tmp_path / "base")
    short = Adapter(rank=2, targets=("c_attn",))
    folder = save(lora.with_adapter(open_base(base), short, seed=1), tmp_path / "ad", base)
    other = open_base(save_base(tmp_path / "other", **changed))
    with pytest.raises(ValueError, match=rf"ad: an adapter's base must be.*{problem}"):
        lora.loaded(other, folder)


def test_a_folder_names_a_base_of_the_hub_as_there(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--facebook--opt-tiny" / "snapshots" / "0123abc"
    base = save_base(snapshot)
    folder = save(lora.with_adapter(open_base(base), RANK4, seed=1), tmp_path / "ad", base)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "facebook/opt-tiny"
    assert config["revision"] == "0123abc"
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 6, "LORA")
