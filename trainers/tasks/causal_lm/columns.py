"""Which columns of a row make a record, in each of the forms that people have; no torch.

A pair is `instruction`, `input` and `output` (by the names in `data.columns`), or `prompt` and
`completion`. A conversation (with `template: chat`) is `messages` of role and content,
`conversations` of from and value, or `prompt` and `completion` that are lists of messages; a column
`system` beside any of them, or beside a pair, is what the system is told first.
"""

import json
from collections.abc import Mapping
from typing import Any

from trainers.nearest import nearest
from trainers.tasks.causal_lm.record import Message, Record, checked, checked_message, describe
from trainers.trial.sources import Columns, DataSource

REQUIRED = ("response", "instruction")
PROMPT, COMPLETION, CONVERSATIONS, TOOLS = "prompt", "completion", "conversations", "tools"
SYSTEM = "system"
# Who speaks in `conversations`, by the role that chat templates know.
ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}


def json_columns(columns: Columns) -> frozenset[str]:
    """Returns the columns whose values are lists, which a file of texts alone writes as JSON."""
    return frozenset({columns.references, columns.messages, CONVERSATIONS, TOOLS})


def record_of(row: Any, place: str, source: DataSource) -> Record:
    """Returns the record in `row`. Raises `ValueError` naming `place`, the column, what it must be
    and what came."""
    if not isinstance(row, Mapping):
        raise ValueError(f"{place}: a record must be an object, but got {type(row).__name__}.")
    try:
        if source.template == "chat":
            found = _conversation(row, source.columns, place)
            return found or _pair(row, source.columns, place, system=row.get(SYSTEM))
        return _pair(row, source.columns, place)
    except RecursionError as error:
        raise ValueError(f"{place}: lists and objects must not be nested so deeply.") from error


def _pair(row: Mapping[str, Any], columns: Columns, place: str, *, system: Any = None) -> Record:
    names = {
        "instruction": columns.instruction,
        "response": columns.response,
        "input": columns.input,
        "references": columns.references,
    }
    if columns.response not in row and COMPLETION in row and columns == Columns():
        names |= {"instruction": PROMPT, "response": COMPLETION}
    optional = {field: row.get(names[field]) for field in ("input", "references")}
    optional |= {SYSTEM: system}
    given = {field: value for field, value in optional.items() if value is not None}
    given |= {field: row[names[field]] for field in REQUIRED if names[field] in row}
    absent = [names[field] for field in REQUIRED if field not in given]
    # a value of a wrong type says more than a column that is absent, so the record says it first
    if absent and all(isinstance(given.get(field, ""), str) for field in REQUIRED):
        raise ValueError(
            f"{place}: '{absent[0]}' must be text, but got the columns {sorted(map(str, row))}. "
            f"Name the right column under data.columns{_remedy(row, columns)}."
        )
    return checked(dict.fromkeys(REQUIRED, "") | given, place, names)


def _remedy(row: Mapping[str, Any], columns: Columns) -> str:
    is_talk = any(name in row for name in (columns.messages, CONVERSATIONS))
    return ", or take conversations: data.template: chat" if is_talk else ""


def _conversation(row: Mapping[str, Any], columns: Columns, place: str) -> Record | None:
    """Returns the record of a row that holds messages, or None for one that holds a pair."""
    name, messages = _messages_in(row, columns, place)
    if messages is None:
        return None
    if not messages or messages[-1]["role"] != "assistant" or not messages[-1]["content"].strip():
        raise ValueError(
            f"{place}: {name} must end with the assistant's answer, "
            f"but got the roles {[m['role'] for m in messages]}."
        )
    asked = [m["content"] for m in messages if m["role"] == "user"]
    values = {
        "instruction": asked[-1] if asked else "",
        "response": messages[-1]["content"],
        "messages": messages,
    }
    beside = {
        "references": row.get(columns.references),
        "tools": _tools(row.get(TOOLS), place),
        SYSTEM: _system(row, messages, place),
    }
    values |= {field: value for field, value in beside.items() if value is not None}
    return checked(values, place, {"references": columns.references})


def _system(row: Mapping[str, Any], messages: list[Message], place: str) -> Any:
    """What the system is told where the conversation does not say it itself."""
    beside = row.get(SYSTEM)
    if messages[0]["role"] != SYSTEM or not beside:
        return beside
    if beside != messages[0]["content"]:
        raise ValueError(
            f"{place}: '{SYSTEM}' must not stand beside a conversation that begins with another "
            f"turn of the system's, but got {beside!r:.60}. Remove one of the two."
        )
    return None


def _messages_in(
    row: Mapping[str, Any], columns: Columns, place: str
) -> tuple[str, list[Message] | None]:
    """The messages of a row, and the column that they end in."""
    for name in (columns.messages, CONVERSATIONS):
        if row.get(name) is not None:
            return name, _messages(row[name], name, place)
    both = {name: row.get(name) for name in (PROMPT, COMPLETION)}
    if not any(isinstance(part, list) for part in both.values()):
        return "", None
    return COMPLETION, [m for name, part in both.items() for m in _messages(part, name, place)]


def _messages(value: Any, name: str, place: str) -> list[Message]:
    if not isinstance(value, list):
        raise ValueError(
            f"{place}: '{name}' must be a list of {{role, content}} or of {{from, value}}, "
            f"but got {describe(value)}."
        )
    return [_message(one, f"{name}[{number}]", place) for number, one in enumerate(value)]


def _message(given: Any, name: str, place: str) -> Message:
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{place}: '{name}' must be {{role, content}} or {{from, value}}, "
            f"but got {describe(given)}."
        )
    # A table has a cell for each key that any message has: null there is the same as no key.
    message = _without_null(given)
    if "from" in message and "role" not in message:
        text = _joined(message.get("value"), f"{name}.value", place)
        renamed = {"role": _role(message["from"], name, place), "content": text}
        return checked_message(renamed, place, name, {"role": "from", "content": "value"})
    if "tool_calls" in message:
        message = {"content": ""} | message
    if "content" in message:
        message["content"] = _joined(message["content"], f"{name}.content", place)
    return checked_message(message, place, name, {})


def _joined(content: Any, name: str, place: str) -> Any:
    """The text of a content that is a list of parts; any other as it is."""
    if not isinstance(content, list):
        return content
    return "".join(_part(one, f"{name}[{number}]", place) for number, one in enumerate(content))


def _part(given: Any, name: str, place: str) -> str:
    text = given.get("text") if isinstance(given, Mapping) and given.get("type") == "text" else None
    if not isinstance(text, str):
        raise ValueError(
            f"{place}: '{name}' must be {{type: text, text}}, since a language model reads texts "
            f"alone, but got {json.dumps(given, default=str):.60}."
        )
    return text


def _role(speaker: Any, name: str, place: str) -> Any:
    if not isinstance(speaker, str):
        return speaker
    if speaker not in ROLES:
        raise ValueError(
            f"{place}: '{name}.from' must be one of {', '.join(ROLES)}, "
            f"but got {speaker!r:.40}.{nearest(speaker, list(ROLES))}"
        )
    return ROLES[speaker]


def _tools(value: Any, place: str) -> Any:
    """Tools are often stored as text, since each has parameters of another form."""
    if not isinstance(value, str):
        return _without_null(value)
    try:
        return _without_null(json.loads(value))
    except ValueError as error:
        raise ValueError(
            f"{place}: '{TOOLS}' must be a list of objects, or that as JSON, but got {value!r:.60}."
        ) from error


def _without_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_null(one) for key, one in value.items() if one is not None}
    return [_without_null(one) for one in value] if isinstance(value, list) else value
