"""From record to tokens: the exact words, and which tokens are learned."""

from pathlib import Path
from typing import Any

import pytest

from trainers.tasks.causal_lm import templates
from trainers.tasks.causal_lm.record import Record
from trainers.trial.sources import Prepared

CHATML = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
MARKED = (
    "{% for m in messages %}<{{ m['role'] }}>{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] }}{{ eos_token }}{% endgeneration %}{% else %}{{ m['content'] }}"
    "{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
TALK = (
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "ho"},
    {"role": "user", "content": "and"},
    {"role": "assistant", "content": "so"},
)


@pytest.fixture
def tokenizer(prepared: Prepared) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(Path(prepared.data) / "tokenizer")


def test_alpaca_wording_is_exact() -> None:
    plain = templates.prompt("alpaca", Record(instruction="Add.", response="x"))
    assert plain == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nAdd.\n\n### Response:\n"
    )
    with_input = templates.prompt("alpaca", Record(instruction="Add.", input="1 2", response="x"))
    assert with_input == (
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n"
    )


def test_braces_in_a_record_stay_as_they_are() -> None:
    record = Record(instruction="Use {input} and {x}", input="{instruction}", response="r")
    assert templates.prompt("{instruction}|{input}", record) == "Use {input} and {x}|{instruction}"


def test_no_character_of_a_record_stands_for_another() -> None:
    record = Record(instruction="a", input="\0{input}\0", response="r")
    assert templates.prompt("\0{instruction}|{input}", record) == "\0a|\0{input}\0"


def test_a_template_without_an_instruction_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data.template: it must be alpaca, chat, or a text"):
        templates.check("Question: {question}")


def test_only_the_response_and_its_end_are_learned(tokenizer: Any) -> None:
    record = Record(instruction="What?", response="The cat.")
    ids, learned, prompt = templates.encode("Q {instruction} A ", record, tokenizer)
    assert tokenizer.decode(ids[:prompt]) == "Q What? A "
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids[prompt:-1]) == "The cat."
    assert learned == [False] * prompt + [True] * (len(ids) - prompt)


@pytest.mark.parametrize("template", [CHATML, MARKED], ids=["prefixes", "generation marks"])
def test_in_a_chat_only_the_assistants_tokens_are_learned(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    record = Record(instruction="and", response="so", messages=TALK)
    ids, learned, prompt = templates.encode("chat", record, tokenizer)
    picked = [i for i, yes in zip(ids, learned, strict=True) if yes]
    assert tokenizer.decode(picked) == "ho<|endoftext|>so<|endoftext|>"
    assert tokenizer.decode(ids[:prompt]).endswith("<user>and<|endoftext|><assistant>")


def test_instruction_data_becomes_a_chat_of_two_turns(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    record = Record(instruction="Add", input="1 2", response="3")
    ids, _, _ = templates.encode("chat", record, tokenizer)
    assert tokenizer.decode(ids) == "<user>Add\n\n1 2<|endoftext|><assistant>3<|endoftext|>"


def test_a_chat_needs_a_chat_template(tokenizer: Any) -> None:
    record = Record(instruction="and", response="so", messages=TALK)
    with pytest.raises(ValueError, match="chat needs a tokenizer with a chat template"):
        templates.encode("chat", record, tokenizer)


@pytest.mark.parametrize(
    ("template", "asked"),
    [("alpaca", "Add.\nNow: 1 ### 2"), ("{instruction}:\n{input}: ", "Add.\nNow: 1 ### 2")],
)
def test_what_a_prompt_asks_is_read_without_the_templates_words(template: str, asked: str) -> None:
    record = Record(instruction="Add.\nNow:", input="1 ### 2", response="x")
    assert templates.asked(template, templates.prompt(template, record)) == asked
    alone = Record(instruction="Add.", response="x")
    assert templates.asked(template, templates.prompt(template, alone)) == "Add."
    assert templates.asked(template, "another text") == "another text"
