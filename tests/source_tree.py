"""Reads the project's sources for the tests of its architecture: modules, imports, arrows."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
PACKAGES = ("search_spaces", "service", "trainers")
FRONT = ROOT / "kd_sweep.py"  # what Python users import; no package imports it


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def sources() -> list[Path]:
    """The front, then the packages' files."""
    return [
        FRONT,
        *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))),
    ]


def files_of_tests() -> list[Path]:
    return sorted(TESTS.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_of(path): path for path in sources()}


def imported(node: ast.AST) -> Iterator[str]:
    """Dotted names that one import statement may load."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def all_imports(path: Path) -> set[str]:
    """Every name that the file imports, also inside functions and for types alone."""
    return {name for node in ast.walk(tree(path)) for name in imported(node)}


def loaded_at_import(node: ast.AST) -> Iterator[str]:
    """Names imported along with the module: not those in functions or under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield from imported(child)
        yield from loaded_at_import(child)


def reached(start: str) -> dict[str, str]:
    """Each module of ours that importing `start` loads, with the module that loads it."""
    found, waiting = {start: ""}, [start]
    while waiting:
        current = waiting.pop()
        names = set(loaded_at_import(tree(modules()[current])))
        parents = {current.rsplit(".", n)[0] for n in range(1, current.count(".") + 1)}
        for name in sorted((names | parents) & modules().keys() - found.keys()):
            found[name] = current
            waiting.append(name)
    return found


@cache
def arrows_between_files() -> dict[str, set[str]]:
    """Which modules of ours each module imports; a folder's own `__init__` is none of them."""
    arrows = {}
    for module, path in modules().items():
        names = all_imports(path) & modules().keys() - {module}
        arrows[module] = {name for name in names if modules()[name].name != "__init__.py"}
    return arrows


def room_of(module: str) -> str:
    """A folder directly below a package, or a file beside such folders."""
    path = modules()[module]
    return "/".join(path.relative_to(ROOT).parts[:2])


def arrows_between_rooms() -> dict[str, dict[str, str]]:
    """For each room, the rooms that it imports, each with one import as an example."""
    arrows: dict[str, dict[str, str]] = {room_of(module): {} for module in modules()}
    for module, targets in arrows_between_files().items():
        for target in sorted(targets):
            if room_of(target) != room_of(module):
                arrows[room_of(module)].setdefault(room_of(target), f"{module} imports {target}")
    return arrows


def circle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """The nodes of one circle, empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(tree(path)) if isinstance(node, kinds)]
