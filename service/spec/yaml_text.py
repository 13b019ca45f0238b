"""The border to YAML: whatever a text holds becomes plain data or a `SpecError` with its line.

Numbers such as 5e-4 are numbers here (YAML 1.1 takes them for text), `on`, `off`, `yes` and `no`
are text (YAML 1.1: booleans), and a name written twice is an error, not a silent choice.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from service.errors import SpecError
from service.words import shortened

MOST_CHARACTERS = 256 * 1024
DEEPEST = 50
# With each alias counted as all that it stands for: aliases of aliases would take for ever.
MOST_VALUES = 50_000
SHOWN = 80
HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")

_YAML = "tag:yaml.org,2002:"
_SCALARS = {
    "bool": (re.compile(r"(true|false|True|False)$"), "tfTF"),
    "int": (re.compile(r"[-+]?(0|[1-9]\d*)$"), "-+0123456789"),
    "float": (re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"), "-+.0123456789"),
}
_SCALAR_TAGS = {f"{_YAML}{name}" for name in ("null", "merge", "str", *_SCALARS)}


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without its surprises."""

    # Without YAML 1.1's own rules for booleans, numbers and dates; those below stand in for them.
    yaml_implicit_resolvers = {
        first: [
            (tag, pattern) for tag, pattern in resolvers if tag in (f"{_YAML}null", f"{_YAML}merge")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def get_single_node(self) -> Any:
        """Returns the document's root, whose nodes are such that they can be made into values."""
        root = super().get_single_node()
        if root is not None:
            _measure(root, {}, 0)
        return root

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Returns the value of a node. Raises `ConstructorError` at its line where it has none."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError) as error:
            raise _problem(node, f"{_shown(str(node.value))} is no {_kind(node)}") from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Returns the mapping. Raises `ConstructorError` where a name stands twice."""
        # The nodes still have both entries; in the mapping that is made, the last would win.
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise _problem(
                    key,
                    f"a name may stand once in a mapping, but got two entries for "
                    f"{_shown(key.value)}, at lines {seen[key.value]} and {line}. Remove one.",
                )
            seen[key.value] = line
        return super().construct_mapping(node, deep)


for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"{_YAML}{_name}", _pattern, list(_first))


def read_yaml(text: str, place: str) -> Any:
    """Returns what `text` holds. Raises `SpecError` that begins with `place` and, where there is
    one, the line."""
    if len(text) > MOST_CHARACTERS:
        raise SpecError(
            f"{place}: must have at most {MOST_CHARACTERS:,} characters, but got {len(text):,}. "
            "Put data into files of its own."
        )
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SpecError(f"{place}{line}: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise SpecError(
            f"{place}, line {number}: must be printable text, but got the character "
            f"{ascii(text[error.position])}. Remove it, or write it as an escape in double quotes."
        ) from error
    except RecursionError as error:
        raise SpecError(f"{place}: {_TOO_DEEP}") from error
    except (yaml.YAMLError, ValueError, LookupError) as error:
        raise SpecError(f"{place}: must be YAML, but got: {error}.") from error


def decode(raw: bytes, place: str) -> str:
    """Returns the text of a file, without a byte order mark. Raises `SpecError` where it is not
    UTF-8."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SpecError(
            f"{place}, line {line}: must be text in UTF-8, but got the byte "
            f"0x{raw[error.start]:02x}. Save it as UTF-8; a sweep is a text file."
        ) from error


_TOO_DEEP = f"values may be nested {DEEPEST} deep, but got more levels. Take some out."


@dataclass(frozen=True)
class _Extent:
    """How many values a node stands for, itself included, and how many levels they have."""

    values: int
    levels: int


def _measure(node: Any, known: dict[int, _Extent | None], depth: int) -> _Extent:
    """Returns the extent of a node `depth` levels below the root, each alias taken as all that it
    stands for. Raises `ConstructorError` for what is no plain value."""
    # Each node is looked at once, however often aliases name it: that is what makes them harmless.
    if id(node) not in known:
        _check_node(node)
        if depth > DEEPEST:
            raise _problem(node, _TOO_DEEP)
        known[id(node)] = None
        below = [_measure(one, known, depth + 1) for one in _below(node)]
        levels = 1 + max((one.levels for one in below), default=0)
        known[id(node)] = _Extent(1 + sum(one.values for one in below), levels)
    extent = known[id(node)]
    if extent is None:  # still being measured, further up
        raise _problem(node, "a value may not hold itself, but got an alias to what is around it")
    if depth + extent.levels > DEEPEST:
        raise _problem(node, _TOO_DEEP)
    if extent.values > MOST_VALUES:
        raise _problem(
            node, f"a sweep may have {MOST_VALUES:,} values, aliases resolved, but got more"
        )
    return extent


def _below(node: Any) -> Iterator[Any]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _check_node(node: Any) -> None:
    tags = {yaml.SequenceNode: {f"{_YAML}seq"}, yaml.MappingNode: {f"{_YAML}map"}}
    if node.tag not in tags.get(type(node), _SCALAR_TAGS):
        raise _problem(
            node, f"could not determine a constructor for the tag {_shown(node.tag)}. Remove it."
        )
    if isinstance(node, yaml.ScalarNode) and HALF_CHARACTER.search(node.value):
        raise _problem(node, f"text must have complete characters, but got {_shown(node.value)}")
    if isinstance(node, yaml.MappingNode):
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _problem(key, "a name must be text, but got a list or a mapping. Quote it.")


def _problem(node: Any, text: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(problem=text, problem_mark=node.start_mark)


def _kind(node: Any) -> str:
    names = {"int": "whole number that can be read", "float": "number", "bool": "true or false"}
    return names.get(node.tag.removeprefix(_YAML), "value of its kind")


def _shown(text: str) -> str:
    return repr(shortened(text, SHOWN))
