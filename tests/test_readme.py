"""What the README tells people to type exists, and what it shows is a valid sweep."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from service.cli.main import app
from service.spec.file import apply_override, parse_yaml, read_document
from service.spec.parse import parse_spec

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
INLINE = re.findall(r"`((?:kd-sweep|make) [^`]+)`", README)


def commands(program: str) -> list[str]:
    lines = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]
    found = [line.partition("#")[0].strip() for line in (*lines, *INLINE)]
    return sorted({line for line in found if line.split(" ")[0] == program})


def arguments(line: str) -> list[str]:
    return shlex.split(line.partition(">")[0])[1:]


@pytest.mark.parametrize("line", commands("kd-sweep"))
def test_each_command_is_one(line: str) -> None:
    name, *rest = arguments(line)
    group = typer.main.get_command(app)
    with group.make_context("kd-sweep", [name, *rest]) as context:
        found, command, left = group.resolve_command(context, [name, *rest])  # type: ignore[attr-defined]
        assert (found, command is not None) == (name, True)
        command.make_context(name, list(left), parent=context)


@pytest.mark.parametrize(
    "line", [line for line in commands("kd-sweep") if arguments(line)[0] in ("plan", "run")]
)
def test_each_override_gives_a_valid_sweep(line: str, tmp_path: Path) -> None:
    _, reference, *options = arguments(line)
    if reference.endswith(".yaml"):
        return
    document = read_document(reference, tmp_path)
    for override in options[1::2]:
        apply_override(document, override)
    assert parse_spec(document).name == reference


@pytest.mark.parametrize("line", commands("make"))
def test_each_make_target_exists(line: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    words = [word for word in shlex.split(line)[1:] if "=" not in word]
    assert words
    assert set(words) <= targets


def test_the_example_is_a_valid_sweep() -> None:
    (example,) = (text for kind, text in BLOCKS if kind == "yaml")
    spec = parse_spec(parse_yaml(example, "README"))
    assert spec.search.has_conditions
    assert yaml.safe_load(example)["name"] == spec.name


def test_the_first_lines_hold_the_two_commands_and_the_whole_stays_short() -> None:
    lines = README.splitlines()
    assert {"make demo", "make test"} <= {line.partition("#")[0].strip() for line in lines[:25]}
    assert len(lines) <= 250


@pytest.mark.parametrize(
    "path",
    sorted(
        set(re.findall(r"`((?:trainers|service|search_spaces|tests|docs)/[\w./]+\.\w+)`", README))
    ),
)
def test_each_file_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()
