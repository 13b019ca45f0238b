"""How a record becomes a prompt: the Alpaca wording, a text of the user's own, or the tokenizer's
chat."""

from typing import Any

from trainers.tasks.causal_lm.record import Record

# The exact words matter: published teachers were trained on them (Alpaca; MiniLLM, 2306.08543).
ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides "
    "further context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)


def check(template: str) -> None:
    """Raises `ValueError` unless `template` is alpaca, chat, or a text with `{instruction}` in
    it."""
    if template not in ("alpaca", "chat") and "{instruction}" not in template:
        raise ValueError(
            "data.template: it must be alpaca, chat, or a text with {instruction} in it, "
            f"but got {template!r:.80}."
        )


def prompt(template: str, record: Record) -> str:
    """Returns the text before the response. Not for `chat`: there the tokenizer has the say."""
    if template == "alpaca":
        template = ALPACA_WITH_INPUT if record.input else ALPACA
    # replace(), not format(): instructions and templates may hold other braces
    text = template.replace("{instruction}", "\0").replace("{input}", record.input)
    return text.replace("\0", record.instruction)


def encode(template: str, record: Record, tokenizer: Any) -> tuple[list[int], list[bool], int]:
    """Returns the token ids, for each whether it is learned (a response's), and the number of
    tokens before the last response. A text template's response ends with the end-of-sequence
    token."""
    if template == "chat":
        return _encode_chat(_messages(record), tokenizer)
    before = tokenizer(prompt(template, record))["input_ids"]
    if before and before[-1] == tokenizer.eos_token_id:
        before = before[:-1]  # some tokenizers close every text; the response is still to come
    after = tokenizer(record.response, add_special_tokens=False)["input_ids"]
    after = [*after, tokenizer.eos_token_id]
    return before + after, [False] * len(before) + [True] * len(after), len(before)


def _messages(record: Record) -> list[dict[str, Any]]:
    if record.messages is not None:
        return [dict(message) for message in record.messages]
    asked = record.instruction + (f"\n\n{record.input}" if record.input else "")
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": record.response}]


def _encode_chat(
    messages: list[dict[str, Any]], tokenizer: Any
) -> tuple[list[int], list[bool], int]:
    if not tokenizer.chat_template:
        raise ValueError(
            "data.template: chat needs a tokenizer with a chat template, but this one has none. "
            "Use alpaca, or a tokenizer of a chat model."
        )
    last = len(_chat_ids(tokenizer, messages[:-1], opened=True))
    if "{% generation %}" in tokenizer.chat_template.replace("{%- ", "{% ").replace(" -%}", " %}"):
        both = tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        return list(both["input_ids"]), [bool(m) for m in both["assistant_masks"]], last
    ids = _chat_ids(tokenizer, messages, opened=False)
    learned = [False] * len(ids)
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            start = len(_chat_ids(tokenizer, messages[:number], opened=True))
            end = len(_chat_ids(tokenizer, messages[: number + 1], opened=False))
            learned[start:end] = [True] * (end - start)
    return ids, learned, last


def _chat_ids(tokenizer: Any, messages: list[dict[str, Any]], *, opened: bool) -> list[int]:
    """Token ids of the conversation so far, with the assistant's turn begun when `opened`."""
    return list(
        tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=False, add_generation_prompt=opened
        )
    )
