"""Which tokens of a conversation are learned, whatever a template does with earlier turns, thoughts
and generation prompts."""

from functools import cache
from typing import Any

import pytest

from trainers.tasks.causal_lm import chat

SPECIAL = [
    "<end>",
    "<s>",
    "<|im_start|>",
    "<|im_end|>",
    "[INST]",
    "[/INST]",
    "<|end|>",
    "<a>",
    "<u>",
]
TEXT = ["the cat sat\n\non the mat\n\n and so on <think> </think>\n"] * 5


@cache
def trained() -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    # newlines stay together, as in the tokenizers of newer models
    words = pre_tokenizers.Split(Regex(r"\n+| ?[^\s]+|\s"), "isolated")
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([words, bytes_of])
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXT, trainer)
    return made


@pytest.fixture
def tokenizer() -> Any:
    """A byte-level tokenizer with a token for two newlines."""
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(
        tokenizer_object=trained(),
        eos_token="<end>",
        bos_token="<s>",
        pad_token="<end>",
        clean_up_tokenization_spaces=False,
    )
    assert made.convert_ids_to_tokens(made("mat\n\n")["input_ids"])[-1] == "ĊĊ"
    return made


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content }}<|im_end|>{{ '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>{{ 'assistant\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content.strip() "
    "+ ' [/INST]' }}{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
# Qwen 3: thoughts of earlier turns go, the last answer has a block of them
THINKING = (
    "{% for m in messages %}{% set c = m.content.split('</think>')[-1].lstrip('\n') %}"
    "<|im_start|>{{ m.role + '\n' }}{% if m.role == 'assistant' and loop.last %}"
    "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}{{ c }}"
    "<|im_end|>{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{{ 'assistant\n' }}{% endif %}"
)
# DeepSeek R1: thoughts go, and the generation prompt opens a block of them
OPENS_THOUGHTS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<u>' + m.content }}"
    "{% else %}{{ '<a>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<a><think>\n' }}{% endif %}"
)
KEEPS_THOUGHTS = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<u>' + m.content }}{% else %}<a><think>"
    "{{ m.reasoning_content }}</think>{{ m.content + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<a><think>\n' }}{% endif %}"
)
IGNORES = (
    "{% for m in messages %}{{ '<u>' if m.role == 'user' else '<a>assistant\n' }}{{ m.content }}"
    "{{ eos_token }}{% endfor %}"
)
ALWAYS_OPENS = IGNORES + "{{ '<a>assistant\n' }}"
# gpt-oss: the last turn is closed in another way
LAST_IS_OTHER = (
    "{% for m in messages %}<|im_start|>{{ m.role + ' ' + m.content }}"
    "{{ eos_token if loop.last else '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{{ 'assistant ' }}{% endif %}"
)
# Mistral: what the system says goes before the last question
MOVES_SYSTEM = (
    "{% set s = messages[0].content + '\n' if messages[0].role == 'system' else '' %}"
    "{% set rest = messages[1:] if s else messages %}{% for m in rest %}"
    "{% if m.role == 'user' %}[INST] {{ (s if loop.index0 >= rest | length - 2 else '') "
    "+ m.content }} [/INST]{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
NUMBERS_FROM_THE_END = (
    "{% for m in messages %}{{ '<u>' if m.role == 'user' else '<a>' }}{{ loop.revindex }}: "
    "{{ m.content + eos_token }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
ENDS_ONCE = (
    "{% for m in messages %}{{ m.role + ': ' + m.content }}{{ '\n' if not loop.last }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\nassistant: ' }}{% else %}{{ eos_token }}{% endif %}"
)


def talk(*turns: str, first: str = "user") -> list[dict[str, Any]]:
    roles = ["user", "assistant"] if first == "user" else ["assistant", "user"]
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]


def system(text: str, *turns: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": text}, *talk(*turns)]


def thoughts(text: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*messages[:-1], {**messages[-1], "reasoning_content": text}]


def encoded(tokenizer: Any, template: str, messages: Any, **more: Any) -> tuple[list[str], str]:
    """Each stretch of learned text, and the last prompt."""
    tokenizer.chat_template = template
    ids, learned, before = chat.encode(messages, tokenizer, **more)
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, tools=more.get("tools"))
    assert tokenizer.decode(ids) == rendered
    stretches: list[list[int]] = []
    for i, yes in enumerate(learned):
        if yes and (not i or not learned[i - 1]):
            stretches.append([])
        if yes:
            stretches[-1].append(ids[i])
    assert learned[before] and not learned[before - 1]
    return [tokenizer.decode(part) for part in stretches], tokenizer.decode(ids[:before])


FOUR = talk("hi", "ho", "and", "so on")
CASES: dict[str, tuple[str, list[dict[str, Any]], list[str], str]] = {
    "plain": (
        CHATML,
        FOUR,
        ["ho<|im_end|>\n", "so on<|im_end|>\n"],
        "and<|im_end|>\n<|im_start|>assistant\n",
    ),
    "newline after the opening": (
        CHATML,
        talk("Hello", "\nThe answer"),
        ["\n\nThe answer<|im_end|>\n"],
        "Hello<|im_end|>\n<|im_start|>assistant",
    ),
    "several bytes a character": (CHATML, talk("é漢", "漢é"), ["漢é<|im_end|>\n"], "assistant\n"),
    "the same text twice": (
        CHATML,
        talk("ho", "ho", "ho", "ho"),
        ["ho<|im_end|>\n"] * 2,
        "assistant\n",
    ),
    "no opening needed": (LLAMA_2, FOUR, [" ho <end>", " so on <end>"], "[INST] and [/INST]"),
    "assistant first": (
        CHATML,
        talk("ho", "and", "so on", first="assistant"),
        ["ho<|im_end|>\n", "so on<|im_end|>\n"],
        "assistant\n",
    ),
    "assistant alone": (
        CHATML,
        talk("ho", first="assistant"),
        ["ho<|im_end|>\n"],
        "<|im_start|>assistant\n",
    ),
    "earlier thoughts go": (
        THINKING,
        talk("hi", "<think>\nhm\n</think>\n\nho", "and", "so on"),
        ["ho<|im_end|>\n", "<think>\n\n</think>\n\nso on<|im_end|>\n"],
        "and<|im_end|>\n<|im_start|>assistant\n",
    ),
    "thoughts are learned": (
        THINKING,
        thoughts("well", FOUR),
        ["ho<|im_end|>\n", "<think>\nwell\n</think>\n\nso on<|im_end|>\n"],
        "and<|im_end|>\n<|im_start|>assistant\n",
    ),
    "opening that is not there later": (
        OPENS_THOUGHTS,
        FOUR,
        ["ho<end>", "so on<end>"],
        "<u>and<a>",
    ),
    "thoughts cut from the answer": (
        OPENS_THOUGHTS,
        talk("hi", "<think>hm</think>ho"),
        ["ho<end>"],
        "<s><u>hi<a>",
    ),
    "thoughts behind half an opening": (
        KEEPS_THOUGHTS,
        thoughts("well", talk("hi", "ho")),
        ["well</think>ho<end>"],
        "<u>hi<a><think>",
    ),
    "opening ignored": (IGNORES, FOUR, ["ho<end>", "so on<end>"], "<u>and<end><a>assistant\n"),
    "opening always": (ALWAYS_OPENS, FOUR, ["ho<end>", "so on<end>"], "<u>and<end><a>assistant\n"),
    "last turn closed otherwise": (
        LAST_IS_OTHER,
        FOUR,
        ["ho<|end|>", " so on<end>"],  # the token of so holds the space before it
        "<|im_start|>user and<|end|><|im_start|>assistant",
    ),
    "system moves": (
        MOVES_SYSTEM,
        system("be", "hi", "ho", "and", "so on"),
        [" ho<end>", " so on<end>"],
        "[INST] be\nand [/INST]",
    ),
    "turns numbered from the end": (
        NUMBERS_FROM_THE_END,
        FOUR,
        ["3: ho<end>", "1: so on<end>"],  # what is to be said when <a> was said
        "<u>2: and<end><a>",
    ),
    "one end for all": (ENDS_ONCE, FOUR, ["ho", " so on<end>"], "\nuser: and\nassistant:"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_the_assistant_says_is_learned_and_nothing_else(tokenizer: Any, name: str) -> None:
    template, messages, expected, prompt = CASES[name]
    learned, before = encoded(tokenizer, template, messages)
    assert learned == expected
    assert before.endswith(prompt)


MARKS = (
    "{% for m in messages %}{% if m.role == 'user' %}<u>{{ m.content }}{% else %}<a>{{ '\n' }}"
    "{%- generation -%}{{ m.content + eos_token }}{%- endgeneration -%}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<a>{{ '\n' }}{% endif %}"
)


def test_the_templates_own_marks_are_taken_by_character(tokenizer: Any) -> None:
    messages = talk("hi", "ho", "and", "\nso on")
    learned, before = encoded(tokenizer, MARKS, messages)
    assert learned == ["ho<end>", "\n\nso on<end>"]
    assert before.endswith("<u>and<a>")


UNMARKED = MARKS.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (
            UNMARKED + "{% generation %}{{ messages[0].content }}{% endgeneration %}",
            "must mark what the assistant says, but it marks 'hi'",
        ),
        (
            UNMARKED + "{% if not messages %}{% generation %}{% endgeneration %}{% endif %}",
            "must mark the last answer",
        ),
    ],
)
def test_wrong_marks_are_refused(tokenizer: Any, template: str, problem: str) -> None:
    with pytest.raises(ValueError, match=rf"f.jsonl, line 3: data.template: chat .*{problem}"):
        encoded(tokenizer, template, talk("hi", "ho"), place="f.jsonl, line 3")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (
            "{{ raise_exception('roles must alternate') }}",
            r"cannot render the conversation \(roles",
        ),
        ("{% for m in messages %}{{ m.nothing.at_all }}{% endfor %}", "cannot render the convers"),
        ("{{ messages[0].content }}", "must show the last answer"),
        (
            "{{ messages[1].content + messages[0].content + messages[1].content }}",
            "message 1 cannot be told from the assistant's",
        ),
    ],
)
def test_a_template_that_does_not_say_whose_text_is_whose_is_refused(
    tokenizer: Any, template: str, problem: str
) -> None:
    with pytest.raises(ValueError, match=rf"f.jsonl, line 3: data.template: chat .*{problem}"):
        encoded(tokenizer, template, talk("hi", "ho"), place="f.jsonl, line 3")


TOOLS = [{"type": "function", "function": {"name": "add"}}]
CALLING = (
    "{% if tools %}<s>{{ tools[0].function.name }}{% endif %}{% for m in messages %}"
    "{{ '<a>' if m.role == 'assistant' else '<u>' }}"
    "{% if m.tool_calls %}CALL {{ m.tool_calls[0].function.name }}{% else %}{{ m.content }}"
    "{% endif %}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)


def test_tools_and_their_calls_reach_the_template(tokenizer: Any) -> None:
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": TOOLS},
        {"role": "tool", "content": "3", "tool_call_id": "x"},
        {"role": "assistant", "content": "ho"},
    ]
    learned, before = encoded(tokenizer, CALLING, messages, tools=TOOLS)
    assert learned == ["CALL add<end>", "ho<end>"]
    assert before == "<s>add<u>hi<end><a>CALL add<end><u>3<end><a>"


def test_of_several_templates_the_one_for_tools_is_taken(tokenizer: Any) -> None:
    several: Any = {"default": CHATML, "tool_use": CALLING}
    messages = talk("hi", "ho")
    assert encoded(tokenizer, several, messages)[0] == ["ho<|im_end|>\n"]
    assert encoded(tokenizer, several, messages, tools=TOOLS)[0] == ["ho<end>"]
    with pytest.raises(ValueError, match=r"one must be called default, but got \['rag'\]"):
        encoded(tokenizer, {"rag": CHATML}, messages)  # type: ignore[arg-type]


def test_a_slow_tokenizer_is_read_by_decoding() -> None:
    from transformers import ByT5Tokenizer

    slow = ByT5Tokenizer()
    assert not slow.is_fast
    slow.chat_template = IGNORES
    ids, learned, before = chat.encode(talk("hé", "漢 é", "x", "yes"), slow)
    picked = slow.decode([i for i, yes in zip(ids, learned, strict=True) if yes])
    assert picked == "漢 é</s>yes</s>"
    assert slow.decode(ids[:before]).endswith("<u>x</s><a>assistant\n")


def test_a_slow_tokenizer_that_does_not_decode_to_the_text_is_refused(tokenizer: Any) -> None:
    from transformers import ByT5Tokenizer

    class Lossy(ByT5Tokenizer):  # type: ignore[misc]
        def decode(self, *arguments: Any, **options: Any) -> str:
            return str(super().decode(*arguments, **options)).lower()

    slow = Lossy()
    slow.chat_template = IGNORES
    with pytest.raises(ValueError, match=r"its fast form \(with a tokenizer.json\)"):
        chat.encode(talk("hi", "Ho"), slow)
