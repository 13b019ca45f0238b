"""Sweep documents that are shipped: presets, the commented starter, and the schema for editors."""

from dataclasses import dataclass
from typing import Any

from service.errors import SpecError
from service.spec.file import (
    parse_yaml,
    preset_names,
    preset_summary,
    preset_text,
    starter_text,
)
from service.spec.parse import json_schema
from trainers.nearest import nearest


@dataclass(frozen=True)
class Preset:
    """A shipped sweep and the question that it answers."""

    name: str
    finds_out: str

    def to_json(self) -> dict[str, Any]:
        """Returns the row of `--json`."""
        return {"name": self.name, "finds out": self.finds_out}


@dataclass(frozen=True)
class SweepDocument:
    """A sweep as it is written, with its comments, and what it holds."""

    text: str
    content: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Returns the content."""
        return self.content


def list_presets() -> list[Preset]:
    """Returns the shipped sweeps by name."""
    return [Preset(name, preset_summary(name)) for name in preset_names()]


def read_preset(name: str) -> SweepDocument:
    """Returns a shipped sweep. Raises `SpecError` with the nearest names for an unknown one."""
    if name not in preset_names():
        raise SpecError(
            f"preset: must be one of {', '.join(preset_names())}, but got '{name:.80}'."
            f"{nearest(name, preset_names())}"
        )
    text = preset_text(name)
    return SweepDocument(text, parse_yaml(text, f"preset {name}"))


def read_starter() -> SweepDocument:
    """Returns a commented sweep to start from; it plans and runs as it is."""
    text = starter_text()
    return SweepDocument(text, parse_yaml(text, "starter"))


def answer_schema(command: str) -> dict[str, Any]:
    """Returns the JSON Schema of what `command` prints with `--json`; of `watch` and `logs`, of
    each line. Raises `SpecError` with the nearest names for an unknown one."""
    from service.actions.json_types import BY_COMMAND, adapter_of

    if command not in BY_COMMAND:
        raise SpecError(
            f"--of: must be a command, but got '{command}'.{nearest(command, list(BY_COMMAND))}"
        )
    return adapter_of(command).json_schema(mode="serialization")


def sweep_schema() -> dict[str, Any]:
    """Returns the JSON Schema of a sweep document."""
    return json_schema()
