"""A model's folder: the files that will be loaded, there and complete, or an error that says which
is not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trainers.files import model_files
from trainers.tasks import locate, weights
from trainers.trial.sources import ModelSource, Prepared


@pytest.fixture
def folder(prepared: Prepared, tmp_path: Path) -> Path:
    made = tmp_path / "model"
    shutil.copytree(prepared.student, made)
    return made


@pytest.fixture
def sharded(prepared: Prepared, tmp_path: Path) -> Path:
    """The same in several files with an index, as large models are published."""
    from transformers import AutoModelForCausalLM

    made = tmp_path / "model"
    AutoModelForCausalLM.from_pretrained(prepared.student).save_pretrained(
        made, max_shard_size="10KB"
    )
    assert len(list(made.glob("model-0*.safetensors"))) > 1
    return made


def look(folder: Path, **options: Any) -> Path:
    return locate.model_folder(ModelSource(model=str(folder), **options), "teacher")


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("model-0*.safetensors"))


def test_complete_folders_are_taken(folder: Path) -> None:
    assert look(folder) == folder
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model_files.num_parameters(folder) == model.num_parameters()


def test_a_second_form_beside_the_shards_is_left_aside(sharded: Path, prepared: Prepared) -> None:
    (sharded / "consolidated.safetensors").write_bytes(b"another form, never opened")
    assert look(sharded) == sharded
    assert model_files.num_parameters(sharded) == model_files.num_parameters(Path(prepared.student))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def pointer(path: Path) -> None:
    """What Git leaves in place of a large file."""
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 548105171\n")


def no_header(path: Path) -> None:
    path.write_bytes((20).to_bytes(8, "little") + b"{not json".ljust(20))


DAMAGES = [
    (cut, r"have the \d+ bytes that its header says, but got \d+"),
    (lengthen, r"have the \d+ bytes that its header says, but got \d+"),
    (empty, r"its header cannot be read \(0 bytes"),
    (pointer, "its header cannot be read"),
    (no_header, r"its header cannot be read \(28 bytes"),
]


@pytest.mark.parametrize(("damage", "problem"), DAMAGES)
def test_damaged_weights_are_refused(
    folder: Path, damage: Callable[[Path], None], problem: str
) -> None:
    damage(folder / "model.safetensors")
    with pytest.raises(ValueError, match=rf"teacher.model: .*model.safetensors must.*{problem}"):
        look(folder)


@pytest.mark.parametrize(("damage", "problem"), DAMAGES)
def test_damaged_shards_are_refused(
    sharded: Path, damage: Callable[[Path], None], problem: str
) -> None:
    damage(shards(sharded)[1])
    with pytest.raises(ValueError, match=rf"teacher.model: .*model-00002-of.* must.*{problem}"):
        look(sharded)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    shards(sharded)[1].unlink()
    with pytest.raises(
        ValueError, match=r"is not complete: model-00002-of-\d+.safetensors of \d+ f"
    ):
        look(sharded)


def test_a_shard_of_another_model_is_named(sharded: Path) -> None:
    shutil.copy(shards(sharded)[0], shards(sharded)[1])
    with pytest.raises(
        ValueError, match=r"model-00002.* must hold transformer\..*, as model.safete"
    ):
        look(sharded)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}'])
def test_a_damaged_index_is_refused(sharded: Path, content: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"teacher.model: .*model.safetensors.index.json"):
        look(sharded)


def test_some_other_safetensors_are_no_model(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    with pytest.raises(ValueError, match=r"is not a model: model.safetensors is missing"):
        look(folder)


def test_an_adapter_beside_weights_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"a whole model, or an adapter alone, but .*adapter_conf"):
        look(folder)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({}, "base_model_name_or_path: must be text, but got nothing. Write there which model"),
        ({"base_model_name_or_path": "./a", "peft_type": "IA3"}, "the kind LORA, but .* 'IA3'. Me"),
        ({"base_model_name_or_path": "./a", "peft_type": "LORA"}, "adapter_model.*is missing"),
    ],
)
def test_what_is_no_adapter_is_refused(tmp_path: Path, config: Any, problem: str) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"^teacher.model: .*{problem}"):
        look(tmp_path)


def quantised(folder: Path, **given: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": given}))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"quant_method": "gptq"}, "quantised by gptq, which needs gptqmodel"),
        ({"quant_method": "awq"}, "quantised by awq, which needs gptqmodel"),
        ({"load_in_4bit": True}, "quantised by bitsandbytes, which needs bitsandbytes"),
        ({"quant_method": "hqq"}, "quantised by hqq, which needs hqq"),
        ({"quant_method": "mine"}, "one of aqlm, .*but got quant_method 'mine'"),
    ],
)
def test_a_quantiser_that_is_not_installed_is_named(
    folder: Path, given: dict[str, Any], problem: str
) -> None:
    quantised(folder, **given)
    with pytest.raises(ValueError, match=f"teacher.model: .*{problem}"):
        look(folder)


def test_a_quantiser_that_is_installed_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: ModuleType(name))
    quantised(folder, quant_method="gptq")
    assert look(folder) == folder


def test_pickled_shards_must_all_be_there(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model-1.bin").write_bytes(b"")
    index = {"weight_map": {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(
        ValueError, match=r"not complete: pytorch_model-2.bin of 2 files is missing"
    ):
        look(folder, allow_pickle=True)
    (folder / "pytorch_model-2.bin").write_bytes(b"")
    assert look(folder, allow_pickle=True) == folder


def test_a_pickle_that_transformers_does_not_look_for_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.00.pth")
    with pytest.raises(
        ValueError, match=r"must find pytorch_model.bin .*but got consolidated.00.pth"
    ):
        look(folder, allow_pickle=True)


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_damaged_config_is_named(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config.json: must be"):
        look(folder)


@pytest.mark.parametrize(
    "header", [b"[1]", b'{"a": 3}', b'{"a": {"shape": ["x"], "data_offsets": [0, 4]}}', b"[" * 5000]
)
def test_parameters_of_a_damaged_file_are_not_counted(folder: Path, header: bytes) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match=r"model\.safetensors must be a safetensors file, but its"):
        model_files.num_parameters(folder)
