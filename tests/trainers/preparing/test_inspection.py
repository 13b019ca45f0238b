"""Looking before spending: what is found, what is missing, and no torch for it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from training_support import gpt2, request, write_lines

from trainers.preparing.inspection import inspect
from trainers.preparing.keys import Keys
from trainers.tasks.causal_lm.facts import DataFacts, SplitFacts
from trainers.tasks.table import task_named
from trainers.trial.adapters import Adapter
from trainers.trial.sources import DataSource, ModelSource, Prepared, TokenizerSource


def look(tmp_path: Path, **changed: Any) -> Any:
    return inspect(request(tmp_path, **changed), tmp_path / "home")


def test_before_anything_is_prepared_numbers_are_estimates(tmp_path: Path) -> None:
    facts = look(tmp_path)
    assert (facts.num_train_examples, facts.num_validation_examples) == (60, 12)
    assert facts.vocab_size == 300
    assert facts.teacher_hidden_size == 32
    assert facts.teacher_entropy_share is None
    assert "to be prepared" in facts.found["teacher"]
    # 300 entries and 128 positions of width 32, two layers, the last norm
    layer = 12 * 32 * 32 + 13 * 32
    assert facts.teacher_parameters == (300 + 128) * 32 + 2 * layer + 2 * 32
    assert f"a gpt2 of {facts.teacher_parameters:,} parameters" in facts.found["teacher"]
    # nothing was made but the notes on what the configs make
    assert [path.name for path in (tmp_path / "home" / "prepared").iterdir()] == ["configs"]


def test_what_an_adapter_has_for_each_rank_is_known_and_remembered(tmp_path: Path) -> None:
    made = look(tmp_path, adapter=Adapter(rank=4))
    # into and out of the four linear layers of width 16
    assert made.adapter_per_rank == (16 + 48) + (16 + 16) + (16 + 64) + (64 + 16)
    (found,) = (tmp_path / "home" / "prepared" / "adapters").glob("*/adapter.json")
    found.write_text('{"numbers_per_rank": 7}')
    assert look(tmp_path, adapter=Adapter(rank=8)).adapter_per_rank == 7
    assert look(tmp_path).adapter_per_rank is None


def test_afterwards_they_are_exact(prepared: Prepared) -> None:
    from transformers import AutoModelForCausalLM

    home = Path(prepared.data).parents[2]
    facts = inspect(request(home.parent), home)
    assert facts.num_train_tokens == prepared.num_train_tokens
    assert facts.teacher_entropy_share == prepared.teacher_metrics["entropy_share"]
    teacher = AutoModelForCausalLM.from_pretrained(prepared.teacher)
    # tied weights are stored once and counted once
    assert facts.teacher_parameters == teacher.num_parameters()
    assert prepared.teacher in facts.found["teacher"]


def test_looking_at_known_configs_needs_no_torch(tmp_path: Path) -> None:
    look(tmp_path)
    code = (
        "import sys; from pathlib import Path; from training_support import request;"
        "from trainers.preparing.inspection import inspect; folder = Path(sys.argv[1]);"
        "inspect(request(folder), folder / 'home');"
        "sys.exit(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)) or 0)"
    )
    tests = Path(__file__).resolve().parents[2]
    # the checkout first: tests/ has a folder of the same name as the package
    environment = os.environ | {"PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def local(prepared: Prepared, tmp_path: Path) -> Path:
    """A copy of the student, with its tokenizer beside it."""
    folder = tmp_path / "local"
    shutil.copytree(prepared.student, folder)
    shutil.copytree(Path(prepared.data) / "tokenizer", folder, dirs_exist_ok=True)
    return folder


def test_a_folder_that_is_no_model_says_what_is_missing(local: Path, tmp_path: Path) -> None:
    (local / "config.json").unlink()
    message = r"teacher.model: folder .*local is not a model: config.json is missing. Name a folder"
    with pytest.raises(ValueError, match=message):
        look(tmp_path, teacher=ModelSource(model=str(local)))


def test_a_folder_without_weights_is_no_model(local: Path, tmp_path: Path) -> None:
    (local / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"student.model: .*model.safetensors is missing"):
        look(tmp_path, student=ModelSource(model=str(local)))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"teacher.model: folder .*nowhere must exist"):
        look(tmp_path, teacher=ModelSource(model="./nowhere"))


def test_pickled_weights_are_refused_unless_allowed(local: Path, tmp_path: Path) -> None:
    (local / "model.safetensors").rename(local / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"must be safetensors, but got pytorch_model.bin in"):
        look(tmp_path, teacher=ModelSource(model=str(local)))
    look(tmp_path, teacher=ModelSource(model=str(local), allow_pickle=True))


def test_a_hub_model_without_a_network_says_so(tmp_path: Path) -> None:
    message = r"teacher.model: 'nobody/nothing' is no folder here, and the Hugging Face hub did not"
    with pytest.raises(ValueError, match=message):
        look(tmp_path, teacher=ModelSource(model="nobody/nothing"))


def test_a_model_with_fewer_rows_than_the_tokenizer_has_entries_is_refused(
    local: Path, tmp_path: Path
) -> None:
    config = json.loads((local / "config.json").read_text()) | {"vocab_size": 299}
    (local / "config.json").write_text(json.dumps(config))
    message = r"student: its output matrix .* the tokenizer's 300 entries, but got 299 rows"
    with pytest.raises(ValueError, match=message):
        look(tmp_path, student=ModelSource(model=str(local)))


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"n_layer": -7}, r"n_layer: it must be at least 1, but got -7"),
    ({"n_layer": 0}, r"n_layer: it must be at least 1, but got 0"),
    ({"n_layer": "many"}, r"n_layer: it must fit gpt2, but got 'many'"),
    ({"n_layer": 2.5}, r"n_layer: it must fit gpt2, but got 2.5"),
    ({"n_layer": True}, r"n_layer: it must fit gpt2, but got True"),
    ({"n_embd": 129, "n_head": 4}, r"n_embd: it must fit gpt2, but got 129 .*divisible"),
    ({"n_head": 0}, r"n_head: it must be at least 1, but got 0"),
    ({"n_inner": -3}, r"n_inner: it must fit gpt2, but got -3"),
    ({"attn_pdrop": 7}, r"attn_pdrop: it must fit gpt2, but got 7"),
    ({"activation_function": "gluon"}, r"activation_function: it must fit gpt2, but got 'gluon'"),
    ({"layer_norm_epsilon": {}}, r"layer_norm_epsilon: it must fit gpt2, but got {}"),
    ({"vocab_size": 299}, r"299 rows"),
    ({"vocab_size": -1}, r"vocab_size: it must"),
    ({"n_layers": 3}, r"every key must be .*Did you mean 'n_layer'"),
    ({"model_type": {"a": 1}}, r"model_type: it must be one that transformers knows, but got {'a'"),
    ({"model_type": ["gpt2"]}, r"model_type: it must be one that transformers knows"),
    ({"model_type": "gtp2"}, r"model_type: .*'gtp2'. Did you mean 'gpt2'"),
]
OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "t5"}, "model_type: it must be one of a causal language model .*'t5'"),
    ({"model_type": "vit"}, "model_type: it must be one of a causal language model .*'vit'"),
    ({"model_type": "bert"}, "model_type: .*bert sees the tokens to come"),
    ({"model_type": "roberta"}, "model_type: .*roberta sees the tokens to come"),
    (
        {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 3},
        "num_key_value_heads: it must divide num_attention_heads=4, but got 3",
    ),
    ({"model_type": "llama", "hidden_act": "gluon"}, "hidden_act: it must fit llama"),
    ({"model_type": "llama", "num_hidden_layers": -1}, "num_hidden_layers: it must be at least 1"),
    ({"model_type": "llama", "rope_parameters": "x"}, "rope_parameters: it must fit llama"),
]


@pytest.mark.parametrize(
    ("config", "problem"), [*[(gpt2(1, 16) | c, p) for c, p in CONFIGS], *OTHERS], ids=str
)
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_config_that_makes_no_model_is_refused_with_its_field(
    tmp_path: Path, role: str, config: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=rf"{role}.*{problem}"):
        look(tmp_path, **{role: ModelSource(config=config)})


def test_a_bert_that_is_told_to_be_a_decoder_is_taken(tmp_path: Path) -> None:
    bert = {"model_type": "bert", "is_decoder": True, "hidden_size": 16, "num_attention_heads": 2}
    config = {**bert, "num_hidden_layers": 1, "intermediate_size": 32}
    assert look(tmp_path, student=ModelSource(config=config)).student_parameters > 0


def test_positions_that_a_config_does_not_name_are_those_of_its_kind(tmp_path: Path) -> None:
    config = {name: value for name, value in gpt2(1, 16).items() if name != "n_positions"}
    with pytest.raises(
        ValueError, match=r"data.max_tokens: .*student's 1024 positions, but got 20"
    ):
        teacher = ModelSource(config=gpt2(1, 16, n_positions=4096))
        look(tmp_path, teacher=teacher, student=ModelSource(config=config), max_tokens=2000)


def test_a_damaged_note_on_a_config_is_named(tmp_path: Path) -> None:
    look(tmp_path)
    for path in (tmp_path / "home" / "prepared" / "configs").glob("*/model.json"):
        path.write_text("{")
    with pytest.raises(ValueError, match=r"model.json must say what a config makes, but it is dam"):
        look(tmp_path)


def test_a_made_teacher_needs_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tokenizer: it must be given when the teacher is made"):
        look(tmp_path, tokenizer=None)


def test_the_teachers_own_tokenizer_is_the_default(local: Path, tmp_path: Path) -> None:
    facts = look(tmp_path, teacher=ModelSource(model=str(local)), tokenizer=None)
    assert facts.found["tokenizer"] == f"the teacher's ({local})"
    for path in local.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"teacher.model: folder .* has no tokenizer"):
        look(tmp_path, teacher=ModelSource(model=str(local)), tokenizer=None)


def test_a_tokenizer_can_be_a_folder(prepared: Prepared, tmp_path: Path) -> None:
    folder = Path(prepared.data) / "tokenizer"
    facts = look(tmp_path, tokenizer=TokenizerSource(model=str(folder)))
    assert facts.found["tokenizer"].endswith(f"({folder})")


def test_more_tokens_than_positions_are_refused(tmp_path: Path) -> None:
    short = ModelSource(config=gpt2(1, 16, n_positions=64))
    with pytest.raises(ValueError, match=r"data.max_tokens: .*student's 64 positions, but got 96"):
        look(tmp_path, student=short)
    with pytest.raises(ValueError, match=r"teacher's 128 positions less the 33 of soft_prompt_tok"):
        look(tmp_path, soft_prompt_tokens=33)
    look(tmp_path, soft_prompt_tokens=32)


@pytest.mark.parametrize("name", ["./nothing", "/no/model", "model.safetensors", "a/b/c"])
@pytest.mark.parametrize("role", ["teacher", "tokenizer"])
def test_a_path_that_is_not_there_is_no_hub_model(tmp_path: Path, name: str, role: str) -> None:
    kind = {"teacher": ModelSource, "tokenizer": TokenizerSource}[role]
    with pytest.raises(ValueError, match=rf"{role}.model: folder /.* must exist, but it does not"):
        look(tmp_path, **{role: kind(model=name)})


@pytest.mark.parametrize("role", ["teacher", "tokenizer"])
def test_a_file_is_no_model(tmp_path: Path, role: str) -> None:
    kind = {"teacher": ModelSource, "tokenizer": TokenizerSource}[role]
    (tmp_path / "model.gguf").write_text("")
    with pytest.raises(ValueError, match=rf"{role}.model: folder .* must exist, but it is a file"):
        look(tmp_path, **{role: kind(model=str(tmp_path / "model.gguf"))})


@pytest.mark.parametrize("role", ["teacher", "tokenizer"])
def test_a_name_that_cannot_be_reached_has_two_readings(tmp_path: Path, role: str) -> None:
    kind = {"teacher": ModelSource, "tokenizer": TokenizerSource}[role]
    message = rf"{role}.model: 'a/b' is no folder here, and the Hugging Face hub did not give it"
    with pytest.raises(ValueError, match=message):
        look(tmp_path, **{role: kind(model="a/b")})


def test_data_on_a_hub_is_said_to_be_no_file(tmp_path: Path) -> None:
    facts = look(tmp_path, data=DataSource(train="some/thing", validation="builtin:docstrings"))
    assert facts.num_train_examples is None
    assert facts.found["data"] == (
        "some/thing (no file here: to be loaded from the hub), builtin:docstrings"
    )


def test_records_are_checked_also_where_their_data_was_prepared(tmp_path: Path) -> None:
    rows = [{"instruction": "a", "output": "b", "references": "Paris"}]
    path = write_lines(tmp_path / "old.jsonl", rows)
    asked = request(tmp_path, data=DataSource(train=str(path), validation=str(path)))
    home = tmp_path / "home"
    folder = Keys(asked, home, task_named(asked.task)).data_folder
    written = SplitFacts(1, 0, 0, 2, 1)
    folder.mkdir(parents=True)
    DataFacts(300, 0, 0, "f", train=written, validation=written).write(folder)
    with pytest.raises(ValueError, match=r"old.jsonl, line 1: 'references' must be a list"):
        inspect(asked, home)


REFUSING = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system here') }}"
    "{% endif %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SYSTEM = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "ho"},
]


@pytest.mark.parametrize(
    ("chat", "messages", "message"),
    [
        (None, SYSTEM[1:], r"chat needs a tokenizer with a chat template, but this one has none"),
        (REFUSING, SYSTEM, r"no system here"),
        (REFUSING, SYSTEM[1:], None),
    ],
)
def test_the_first_conversations_are_tried_with_the_real_template(
    local: Path, tmp_path: Path, chat: str | None, messages: Any, message: str | None
) -> None:
    if chat is not None:
        (local / "chat_template.jinja").write_text(chat)
    path = write_lines(tmp_path / "talk.jsonl", [{"messages": messages}])
    asked = {
        "data": DataSource(train=str(path), validation=str(path), template="chat"),
        "tokenizer": TokenizerSource(model=str(local)),
    }
    if message is None:
        assert look(tmp_path, **asked).num_train_examples == 1
        return
    with pytest.raises(ValueError, match=message):
        look(tmp_path, **asked)


def test_a_tokenizer_trained_on_the_data_has_no_chat(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "talk.jsonl", [{"messages": SYSTEM}])
    source = DataSource(train=str(path), validation=str(path), template="chat")
    with pytest.raises(ValueError, match=r"data.template: chat .* trained on the data has none"):
        look(tmp_path, data=source)


def test_bad_data_is_found_before_anything_is_spent(tmp_path: Path) -> None:
    bad = write_lines(tmp_path / "bad.jsonl", [{"instruction": "a", "output": "b"}, {"output": 1}])
    source = DataSource(train=str(bad), validation=str(bad))
    with pytest.raises(ValueError, match=r"bad.jsonl, line 2: 'output' must be text"):
        look(tmp_path, data=source)
