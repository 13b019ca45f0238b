"""One example of instruction data, typed and checked; no torch."""

import json
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails
from typing_extensions import TypedDict  # Python 3.11 has one that pydantic cannot read


def _whole(text: str) -> str:
    """Raises `ValueError` for half of a surrogate pair, which JSON can write and UTF-8 cannot: no
    tokenizer and no file takes it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            "must be text of whole characters, "
            f"but got half a surrogate pair ({text[error.start]!r}) at character {error.start + 1}"
        ) from error
    return text


def _whole_inside(value: Any) -> Any:
    _whole(json.dumps(value, ensure_ascii=False))
    return value


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError(f"must not be blank, but got {text!r:.40}")
    return text


Text = Annotated[str, AfterValidator(_whole)]
JsonObjects = Annotated[list[dict[str, JsonValue]], AfterValidator(_whole_inside)]

STRICT = ConfigDict(strict=True, extra="forbid")


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it; other keys are left out."""

    __pydantic_config__ = ConfigDict(strict=True, extra="ignore")  # type: ignore[misc]

    role: Text
    content: Text
    name: NotRequired[Text]
    reasoning_content: NotRequired[Text]
    tool_calls: NotRequired[JsonObjects]
    tool_call_id: NotRequired[Text]


@dataclass(frozen=True, config=STRICT)
class Record:
    """One example: an instruction (with an optional input) or chat messages (with the tools that
    they may call), what the system is told before either, the response to learn, and all accepted
    answers (`references`, the response among them when no others were given). `place` (file and
    line) names it in errors.

    Raises pydantic's `ValidationError` for values of another type."""

    instruction: Text
    response: Annotated[Text, AfterValidator(_not_blank)]
    input: Text = ""
    system: Text = ""
    # not strict: a list is taken for a tuple, a text or an object is not
    references: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    messages: Annotated[tuple[Message, ...], Field(strict=False)] | None = None
    tools: JsonObjects | None = None
    place: str = field(default="", compare=False)

    @property
    def answers(self) -> tuple[str, ...]:
        """All accepted answers."""
        return self.references or (self.response,)


_MESSAGE = TypeAdapter(Message)


def checked(values: Mapping[str, Any], place: str, columns: Mapping[str, str]) -> Record:
    """Returns the record with these fields. Raises `ValueError` naming `place` and, for a field of
    another type, the column (by `columns`, from a field's name) that it came from."""
    try:
        return Record(**{**values, "place": place})
    except ValidationError as error:
        raise ValueError(f"{place}: {_explain(error.errors()[0], columns)}") from error


def checked_message(
    values: Mapping[str, Any], place: str, name: str, keys: Mapping[str, str]
) -> Message:
    """Returns the message with these fields, as `checked` does a record; `name` says which one."""
    try:
        return _MESSAGE.validate_python(values)
    except ValidationError as error:
        raise ValueError(f"{place}: {_explain(error.errors()[0], keys, f'{name}.')}") from error


_RULES = {
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be an object",
}


def _explain(details: ErrorDetails, names: Mapping[str, str], within: str = "") -> str:
    first, *inner = details["loc"]
    name = within + names.get(str(first), str(first))
    # a value deep inside a tool is named as far as anyone wants to read
    name += "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inner[:4])
    if details["type"] == "value_error":
        subject = f"the response '{name}'" if first == "response" else f"'{name}'"
        return f"{subject} {details['ctx']['error']}."
    if details["type"] == "missing":
        return f"'{name}' must be given, but it is missing."
    rule = _RULES.get(details["type"], details["msg"])
    return f"'{name}' {rule}, but got {describe(details['input'])}."


def describe(value: Any) -> str:
    """Returns what a value is, for an error: its type, and the value where it is short."""
    if value is None:
        return "null"
    kind = type(value).__name__
    return f"{kind} {value!r:.40}" if isinstance(value, str | int | float) else kind
