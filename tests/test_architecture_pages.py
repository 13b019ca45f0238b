"""The pages about the architecture name files, commands, functions and words that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import typer

from service.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
NAMED = [
    (page, name)
    for page in ("docs/architecture.md", "docs/states.md")
    for name in sorted(set(re.findall(r"`([^`]+)`", (ROOT / page).read_text(encoding="utf-8"))))
]
PACKAGES = ("service", "trainers", "search_spaces")
# Where a file or folder may be that a table names without its parents.
FOLDERS = (ROOT, ROOT / "service", ROOT / "trainers", ROOT / "trainers" / "losses")


@cache
def nodes() -> list[ast.AST]:
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [node for path in files for node in ast.walk(ast.parse(path.read_text()))]


def names_in(body: list[ast.stmt]) -> set[str]:
    """What a module or class binds: functions, classes, constants, fields, members of an enum."""
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.Assign):
            bound = [each for target in node.targets for each in ast.walk(target)]
            found |= {each.id for each in bound if isinstance(each, ast.Name)}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


@cache
def members() -> dict[str, set[str]]:
    """Each class with its own names, those of classes of one name together."""
    found: dict[str, set[str]] = {}
    for node in nodes():
        if isinstance(node, ast.ClassDef):
            found.setdefault(node.name, set()).update(names_in(node.body))
    return found


@cache
def words() -> set[str]:
    """Names of modules and classes, names of parameters, and strings."""
    bound = [names_in(n.body) for n in nodes() if isinstance(n, ast.Module | ast.ClassDef)]
    strings = {n.value for n in nodes() if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return set().union(*bound) | strings | {n.arg for n in nodes() if isinstance(n, ast.arg)}


def exists(name: str) -> bool:
    if "/" in name or name.endswith(".py"):
        return any((folder / name).exists() for folder in FOLDERS)
    if " make " in f" {name}":
        return f"\n{name.split()[-1]}:" in (ROOT / "Makefile").read_text()
    if name.startswith("kd-sweep "):
        group = typer.main.get_command(app)
        return name.split()[1] in group.commands  # type: ignore[attr-defined]
    owner, _, member = name.partition(".")
    return name in words() or member in members().get(owner, set())


@pytest.mark.parametrize(("page", "name"), NAMED)
def test_what_a_page_names_is_there(page: str, name: str) -> None:
    assert exists(name), f"{page} names `{name}`, which is nowhere in the sources"


def test_the_architecture_has_a_line_for_each_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = [
        path.name
        for package in ("service", "trainers")
        for path in (ROOT / package).iterdir()
        if (path / "__init__.py").is_file()
    ]
    assert [room for room in rooms if f"| `{room}/` |" not in page] == []


@pytest.mark.parametrize(
    "name",
    ["service/no_file.py", "make nothing", "kd-sweep no-command", "Leave.NO_REASON", "no_function"],
)
def test_a_name_of_nothing_is_found_out(name: str) -> None:
    assert not exists(name)
