"""Teachers and starts that are adapters, and those that a fit trains: whole models from then on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_support import open_base, train_a_little
from training_support import VOCAB_SIZE, gpt2, request

from trainers.preparing.inspection import inspect
from trainers.preparing.keys import Keys
from trainers.preparing.prepare import prepare
from trainers.students import lora
from trainers.students.folders import write_base
from trainers.tasks import locate, table
from trainers.trial.adapters import Adapter
from trainers.trial.sources import FitConfig, ModelSource, Prepared, PrepareRequest, TokenizerSource

IDS = torch.arange(12).view(1, 12)


def save_adapter(base: Path, folder: Path, fingerprint: str, **settings: Any) -> Any:
    """An adapter beside a base, as a trial writes it; returns its model."""
    model = lora.with_adapter(open_base(base), Adapter(rank=2, **settings), seed=0)
    train_a_little(model).save_pretrained(folder)
    write_base(folder, base, fingerprint=fingerprint, architecture="GPT2LMHeadModel")
    return model


@pytest.fixture(scope="module")
def base(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    shutil.copytree(prepared.teacher, folder)
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path, prepared: Prepared) -> Path:
    folder = base.parent / "adapter"
    save_adapter(base, folder, prepared.fingerprints["teacher"])
    return folder


def asked(tmp_path: Path, prepared: Prepared, **changed: Any) -> PrepareRequest:
    tokenizer = TokenizerSource(model=f"{prepared.data}/tokenizer")
    start = {"student": ModelSource(config=gpt2(1, 16)), "tokenizer": tokenizer}
    return request(tmp_path, **(start | changed))


def test_a_teacher_that_is_an_adapter_is_merged_once_and_known_by_what_it_says(
    adapter: Path, base: Path, prepared: Prepared, tmp_path: Path
) -> None:
    named = asked(tmp_path, prepared, teacher=ModelSource(model=str(adapter)))
    found = prepare(named, tmp_path / "home")
    folder = Path(found.teacher)
    assert folder.parent == tmp_path / "home" / "prepared" / "teachers"
    whole, beside = open_base(folder), lora.loaded(open_base(base), adapter)
    with torch.no_grad():
        torch.testing.assert_close(whole(IDS).logits, beside(IDS).logits, atol=1e-5, rtol=1e-4)
    assert found.fingerprints["teacher"] != prepared.fingerprints["teacher"]
    facts = inspect(named, tmp_path / "home")
    assert f"merged with its base (ready in {folder})" in facts.found["teacher"]
    assert facts.teacher_parameters == sum(p.numel() for p in whole.parameters())


def test_where_the_base_is_stored_is_no_part_of_an_adapters_key(
    adapter: Path, base: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(base, other)
    moved = tmp_path / "moved"
    shutil.copytree(adapter, moved)
    write_base(moved, other, fingerprint="unknown", architecture="GPT2LMHeadModel")
    one, same = (ModelSource(model=str(folder)) for folder in (adapter, moved))
    assert locate.fingerprint(one, "teacher") == locate.fingerprint(same, "teacher")
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    assert locate.fingerprint(one, "teacher") != locate.fingerprint(same, "teacher")


def test_a_fit_may_train_an_adapter_and_leaves_a_whole_model(
    prepared: Prepared, tmp_path: Path
) -> None:
    fits = {"steps": 4, "batch_size": 8, "learning_rate": 1e-2}
    start = ModelSource(config=gpt2(2, 32))
    lora_fit = FitConfig(**fits, adapter=Adapter(rank=2, targets=("c_attn",)))
    teacher = start.model_copy(update={"fit": lora_fit})
    found = prepare(asked(tmp_path, prepared, teacher=teacher), tmp_path / "home")
    fitted = open_base(Path(found.teacher)).state_dict()
    untouched = prepare(asked(tmp_path, prepared, teacher=start, student=start), tmp_path / "home")
    first = open_base(Path(untouched.teacher)).state_dict()
    changed = {name for name, value in fitted.items() if not torch.equal(value, first[name])}
    assert changed == {f"transformer.h.{layer}.attn.c_attn.weight" for layer in range(2)}
    difference = (
        fitted["transformer.h.0.attn.c_attn.weight"] - first["transformer.h.0.attn.c_attn.weight"]
    )
    assert torch.linalg.matrix_rank(difference, rtol=1e-3) == 2


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            {"adapter": Adapter(targets=("q_proj",))},
            r"^student.adapter.targets: .*GPT2LMHeadModel, but 'q_proj' matches none.*c_attn",
        ),
        (
            {
                "teacher": ModelSource(
                    config=gpt2(1, 16), fit=FitConfig(steps=1, adapter=Adapter(targets=("wte",)))
                )
            },
            r"^teacher.fit.adapter.targets: .*'wte' matches none",
        ),
    ],
)
def test_targets_are_looked_for_before_anything_is_computed(
    prepared: Prepared, tmp_path: Path, changed: dict[str, Any], problem: str
) -> None:
    wrong = asked(tmp_path, prepared, **changed)
    for ask in (inspect, prepare):
        with pytest.raises(ValueError, match=problem):
            ask(wrong, tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_what_fits_is_remembered(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = asked(tmp_path, prepared, adapter=Adapter(targets=("c_attn",)))
    inspect(right, tmp_path / "home")
    monkeypatch.setattr("trainers.students.targets.target_names", None)
    inspect(right, tmp_path / "home")


def quantised(base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    given = {"quantization_config": {"quant_method": "bitnet"}}  # which needs accelerate alone
    (base / "config.json").write_text(json.dumps(config | given))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (quantised, "teacher.model: an adapter can be merged with plain weights alone, but its ba"),
        (
            shutil.rmtree,
            "teacher.model: the base that adapter_config.* names: folder .* must",
        ),
        (
            lambda base: (base / "adapter_config.json").write_text("{}"),
            "teacher.model: the base that .*: it must be a whole model, or an adapter alone",
        ),
    ],
)
def test_a_base_that_is_none_is_refused(
    base: Path, adapter: Path, prepared: Prepared, tmp_path: Path, damage: Any, problem: str
) -> None:
    own, beside = tmp_path / "base", tmp_path / "beside"
    shutil.copytree(base, own)
    shutil.copytree(adapter, beside)
    write_base(beside, own, fingerprint="unknown", architecture="GPT2LMHeadModel")
    damage(own)
    named = asked(tmp_path, prepared, teacher=ModelSource(model=str(beside)))
    with pytest.raises(ValueError, match=problem):
        inspect(named, tmp_path / "home")


def test_a_start_beside_another_model_than_it_was_trained_beside_is_refused(
    base: Path, adapter: Path, prepared: Prepared, tmp_path: Path
) -> None:
    other, beside = tmp_path / "other", tmp_path / "beside"
    shutil.copytree(base, other)
    shutil.copytree(adapter, beside)
    train_a_little(open_base(base)).save_pretrained(other)
    config = json.loads((beside / "adapter_config.json").read_text())
    text = json.dumps(config | {"base_model_name_or_path": str(other)})
    (beside / "adapter_config.json").write_text(text)
    named = asked(tmp_path, prepared, student=ModelSource(model=str(beside)))
    with pytest.raises(ValueError, match=r"^student.model: an adapter's base must be the model th"):
        prepare(named, tmp_path / "home")


def test_an_adapter_is_part_of_no_key_of_the_models_it_is_beside(
    prepared: Prepared, tmp_path: Path
) -> None:
    with_one = asked(tmp_path, prepared, adapter=Adapter(rank=2))
    without = asked(tmp_path, prepared)
    task = table.task_named("causal_lm")
    one, other = (
        Keys(each, tmp_path, task).model_folder(each.student, "student")
        for each in (with_one, without)
    )
    assert one == other
    assert prepared.vocab_size == VOCAB_SIZE
