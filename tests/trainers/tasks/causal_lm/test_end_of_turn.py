"""A chat model stops where its template ends an answer, also where no generation config says so."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from training_support import LENGTHS, gpt2, trial, write_lines

from trainers import numerics
from trainers.preparing.keys import Keys
from trainers.preparing.prepare import prepare
from trainers.tasks import table
from trainers.tasks.causal_lm import chat, facts, generation, models
from trainers.tasks.causal_lm.data import TokenData
from trainers.tasks.causal_lm.evaluation import TextEvaluator
from trainers.tasks.causal_lm.models import LanguageModel
from trainers.training.student import StudentWithLoss
from trainers.trial.fields import Precision
from trainers.trial.sources import DataSource, ModelSource, Prepared, PrepareRequest
from trainers.trial.sources import TokenizerSource as Source
from trainers.world import World

SPECIAL = ["<end>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content }}<|im_end|>{{ '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>{{ 'assistant\n' }}{% endif %}"
)
LINE_FIRST = CHATML.replace("m.content }}<|im_end|>", "m.content }}{{ '\n' }}<|im_end|>")
PLAIN = (
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n### END\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
WITH_EOS = "{% for m in messages %}{{ m.role + ': ' + m.content + ' ' + eos_token }}{% endfor %}"
TALK = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]


def made(template: str) -> Any:
    """A byte-level tokenizer whose end of sequence is <end>."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers import models as kinds
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    own = Tokenizer(kinds.BPE({one: n for n, one in enumerate(alphabet)}, []))
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    own.add_special_tokens(SPECIAL)
    loaded = PreTrainedTokenizerFast(tokenizer_object=own, eos_token="<end>", pad_token="<end>")
    loaded.chat_template = template
    return loaded


@pytest.mark.parametrize(
    ("template", "end", "token"),
    [
        (CHATML, "<|im_end|>\n", "<|im_end|>"),
        (LINE_FIRST, "\n<|im_end|>\n", "<|im_end|>"),
        (WITH_EOS, " <end>", "<end>"),
        (PLAIN, "\n### END\n", None),
    ],
)
def test_the_template_says_what_ends_an_answer(template: str, end: str, token: str | None) -> None:
    tokenizer = made(template)
    assert chat.end_of_turn(TALK, tokenizer) == end
    found = generation.turn_token(tokenizer, end)
    assert found == (None if token is None else tokenizer.convert_tokens_to_ids(token))
    model = SimpleNamespace(generation_config=None)
    ends = {tokenizer.eos_token_id} | ({found} - {None})
    assert generation.end_tokens(model, tokenizer, end) == ends


def test_an_answer_that_calls_a_tool_says_nothing_of_its_end() -> None:
    calling = [TALK[0], TALK[1] | {"tool_calls": [{"function": {"name": "f"}}]}]
    assert chat.end_of_turn(calling, made(CHATML)) == ""


def request(folder: Path, template: str) -> PrepareRequest:
    tokens = folder / "tokens"
    made(template).save_pretrained(tokens)
    path = write_lines(folder / "talk.jsonl", [{"messages": TALK}] * 4)
    return PrepareRequest.model_validate(
        {
            "teacher": ModelSource(config=gpt2(1, 16)),
            "student": ModelSource(config=gpt2(1, 16)),
            "tokenizer": Source(model=str(tokens)),
            "data": DataSource(train=str(path), validation=str(path), template="chat"),
            **LENGTHS,
        }
    )


def answers(prepared: Prepared, said: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a student that says `said` and goes on for ever is taken to have answered."""
    data = TokenData.open(Path(prepared.data))
    ids = data.tokenizer(said, add_special_tokens=False)["input_ids"]

    def generate(*args: Any, decoding: Any, **_: Any) -> dict[int, list[int]]:
        ends = [n for n, one in enumerate(ids) if one in decoding.end_token_ids]
        return {number: ids[: min(ends, default=None)] for number, _ in args[2]}

    monkeypatch.setattr(generation, "generate", generate)
    config = trial(prepared).config
    resolved = numerics.resolve("cpu", Precision.FLOAT32, 1)
    loaded = models.load(Path(prepared.student), attention=None, dtype=torch.float32)
    student = StudentWithLoss.build(
        LanguageModel.of(loaded, data.num_classes),
        config,
        device=torch.device("cpu"),
        numerics=resolved,
    )
    found = TextEvaluator(config, data, None, World(), resolved).evaluate(student, {})
    return [sample["answer"] for sample in found.samples]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (CHATML, "Good day<|im_end|>\n<|im_start|>user\nHello"),
        (PLAIN, "Good day\n### END\nuser: Hello"),
    ],
)
def test_nothing_behind_the_turn_counts_as_answer(
    tmp_path: Path, template: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(request(tmp_path, template), tmp_path / "home")
    assert answers(prepared, said, monkeypatch) == ["Good day"] * 4


def test_data_of_an_earlier_version_are_read_and_prepared_again(tmp_path: Path) -> None:
    asked = request(tmp_path, CHATML)
    prepared = prepare(asked, tmp_path / "home")
    path = Path(prepared.data) / facts.FACTS_FILE
    known = json.loads(path.read_text())
    assert known.pop("end_of_turn") == "<|im_end|>\n"
    path.write_text(json.dumps(known))
    assert facts.DataFacts.read(path.parent).end_of_turn == ""
    keys = Keys(asked, tmp_path / "home", table.task_named("causal_lm"))
    assert keys._inputs.data["ends"] == "noted"
