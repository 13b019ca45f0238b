"""A small model that answers prompts: greedily, in its template, and not where they do not fit."""

import json
from pathlib import Path

import pytest
import torch
from judge_support import write_judge
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForSequenceClassification

from trainers.evaluating import chat_model
from trainers.evaluating.chat_model import ChatModel

PROMPTS = ["Which one? [[A]]", "B", "or " * 30, *"cdefghi"]


@pytest.fixture(autouse=True)
def few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_model, "NEW_TOKENS", 12)


def written(folder: Path, text: str) -> str:
    """What the model says after `text`, without batches, padding, or a cache."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    start = len(ids)
    for _ in range(12):
        drawn = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if drawn == tokenizer.eos_token_id:
            break
        ids.append(drawn)
    return str(tokenizer.decode(ids[start:], skip_special_tokens=True))


@pytest.mark.parametrize("has_template", [True, False])
def test_answers_are_greedy_and_each_prompts_own(tmp_path: Path, has_template: bool) -> None:
    folder = write_judge(tmp_path) if has_template else write_judge(tmp_path, template=None)
    model = ChatModel.named(str(folder), "judge")
    assert model.has_template == has_template
    form = "<user>{}</user><assistant>" if has_template else "{}"
    expected = [written(folder, form.format(prompt)) for prompt in PROMPTS]
    assert len(set(expected)) > 3
    assert model.answer(PROMPTS) == expected


def test_an_answer_ends_with_its_end_of_text(tmp_path: Path) -> None:
    write_judge(tmp_path, says="[[A]]")
    assert ChatModel(tmp_path).answer(["x"]) == ["[[A]]" * 12]
    path = tmp_path / "generation_config.json"
    settings = json.loads(path.read_text())
    end = len(AutoTokenizer.from_pretrained(tmp_path)) - 1
    path.write_text(json.dumps(settings | {"eos_token_id": [end, 5]}))
    assert ChatModel(tmp_path).answer(["x", "longer"]) == ["", ""]


def test_a_prompt_longer_than_the_context_is_refused(tmp_path: Path) -> None:
    write_judge(tmp_path, template=None, context=20)
    model = ChatModel(tmp_path)
    model.check(["12345678"])
    rule = r"hold the longest prompt and an answer of 12 tokens, 21 in all, but .* takes 20"
    with pytest.raises(ValueError, match=rule):
        model.check(["1", "123456789"])
    with pytest.raises(ValueError, match=rule):
        model.answer(["123456789"])


def test_what_is_no_language_model_is_refused(tmp_path: Path) -> None:
    write_judge(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))
    with pytest.raises(ValueError, match=r"judge\.model: '.*' must be a causal .* got a 'vit'"):
        ChatModel.named(str(tmp_path), "judge")


def test_a_classifier_has_no_words(tmp_path: Path) -> None:
    write_judge(tmp_path)
    kind = LlamaForSequenceClassification.config_class
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    config = kind(vocab_size=257, num_attention_heads=2, **sizes)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    model = ChatModel.named(str(tmp_path), "judge")
    with pytest.raises(ValueError, match=r"every weight of a LlamaForCausalLM, but lm_head\.weigh"):
        model.answer(["x"])


def test_a_template_and_a_tokenizer_that_fail_are_named(tmp_path: Path) -> None:
    write_judge(tmp_path, template="{{ raise_exception('no users') }}")
    with pytest.raises(ValueError, match=r"chat template in .* must take a user's turn.*no users"):
        ChatModel(tmp_path).check(["x"])
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="must have a tokenizer that transformers reads, but got"):
        ChatModel(tmp_path).check(["x"])
