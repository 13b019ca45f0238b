"""How a record becomes a prompt: the Alpaca wording, a text of the user's own, or the tokenizer's
chat."""

import re
from typing import Any

from trainers.tasks.causal_lm import chat
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
_NAMES = re.compile(r"\{(instruction|input)\}")


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
    # in one pass, and not by format(): instructions, inputs and templates may hold other braces
    return _NAMES.sub(lambda found: str(getattr(record, found[1])), template)


def around_prompt(template: str) -> str | None:
    """Returns the template with a `{prompt}` for an instruction without input, other braces doubled
    as `str.format` wants them. None for `chat`."""
    if template == "chat":
        return None
    text = ALPACA if template == "alpaca" else template
    empty = Record(instruction="\0", response="-")
    before, *after = prompt(text, empty).replace("{", "{{").replace("}", "}}").split("\0")
    return "{prompt}".join([before, "".join(after)])


def asked(template: str, text: str) -> str:
    """Returns instruction and input of a prompt's text; all of a text that is not the template's,
    or of `chat`."""
    for wording in (ALPACA, ALPACA_WITH_INPUT) if template == "alpaca" else (template,):
        around = _NAMES.split(wording)[::2]  # between them are the names
        found = re.fullmatch("(.*)".join(map(re.escape, around)), text, re.DOTALL)
        if found:
            return " ".join(filter(None, found.groups()))
    return text


def encode(template: str, record: Record, tokenizer: Any) -> tuple[list[int], list[bool], int]:
    """Returns the token ids, for each whether it is learned (a response's), and the number of
    tokens before the last response. A text template's response ends with the end-of-sequence
    token."""
    if template == "chat":
        messages = _messages(record)
        return chat.encode(messages, tokenizer, tools=record.tools, place=record.place)
    before = tokenizer(prompt(template, record))["input_ids"]
    if before and before[-1] == tokenizer.eos_token_id:
        before = before[:-1]  # some tokenizers close every text; the response is still to come
    after = tokenizer(record.response, add_special_tokens=False)["input_ids"]
    after = [*after, tokenizer.eos_token_id]
    return before + after, [False] * len(before) + [True] * len(after), len(before)


def end_of_turn(template: str, record: Record, tokenizer: Any) -> str:
    """Returns what a chat template writes behind a record's last answer; empty for the others,
    whose responses end with the end-of-sequence token."""
    if template != "chat":
        return ""
    return chat.end_of_turn(_messages(record), tokenizer, tools=record.tools)


def _messages(record: Record) -> list[dict[str, Any]]:
    first = [{"role": "system", "content": record.system}] if record.system else []
    if record.messages is not None:
        return [*first, *(dict(message) for message in record.messages)]
    asked = record.instruction + (f"\n\n{record.input}" if record.input else "")
    answer = {"role": "assistant", "content": record.response}
    return [*first, {"role": "user", "content": asked}, answer]
