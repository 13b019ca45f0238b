"""The rules of the house as tables, checked on the source text: who imports whom, where each heavy
dependency lives, who may print, how long things may be."""

import ast
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"

# package: the packages of ours that it may import
LAYERS: dict[str, set[str]] = {
    "search_spaces": set(),
    "trainers": set(),
    "service": {"search_spaces", "trainers"},
}

# dependency: the files and folders that may import it, anywhere in their text
HOMES: dict[str, set[str]] = {
    "torch": {"trainers", "service/actions/doctor.py"},
    "transformers": {"trainers"},
    "datasets": {"trainers"},
    "ray": {"trainers/worker.py", "service"},
    "mlflow": {"service/record"},
    "optuna": {"search_spaces", "service"},
    "docker": {"service/rerun/engines.py", "service/actions/doctor.py"},
    "typer": {"service/cli"},
    "rich": {"service/cli"},
}

# Each costs 0.3 to 6 seconds, so only the function that needs it loads it.
HEAVY = {
    "torch",
    "transformers",
    "datasets",
    "ray",
    "mlflow",
    "optuna",
    "docker",
    "plotly",
    "scipy",
}
ANSWER_AT_ONCE = (
    "service.cli.main",
    "service.spec.parse",
    "service.plan.plan",
    "trainers.tasks.table",
    "search_spaces.space",
)
WITHOUT_TORCH = (
    "trainers.trial.config",
    "trainers.trial.catalogue",
    "trainers.trial.sources",
    "trainers.trial.trial_file",
    "trainers.trial.reporting",
)

# module: the only modules that may import it
ENTRANCES: dict[str, set[str]] = {
    "service.cli.main": {"service.__main__"},
    "service.driver.driver": {"service.actions.run", "service.cluster.drive"},
}

MAY_PRINT_OR_EXIT = {
    "service/cli/app.py",
    "service/cli/sweeps.py",
    "service/__main__.py",
    "trainers/__main__.py",
}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def sources() -> list[Path]:
    return [path for package in LAYERS for path in sorted((ROOT / package).rglob("*.py"))]


def files_of_tests() -> list[Path]:
    return sorted(TESTS.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(node: ast.AST) -> Iterator[str]:
    """Dotted names that one import statement may load."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def loaded_at_import(node: ast.AST) -> Iterator[str]:
    """Names imported along with the module: not those in functions or under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield from imported(child)
        yield from loaded_at_import(child)


def all_imports(path: Path) -> set[str]:
    return {name for node in ast.walk(tree(path)) for name in imported(node)}


@cache
def modules() -> dict[str, Path]:
    return {module_of(path): path for path in sources()}


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


def function_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(tree(path)) if isinstance(node, kinds)]


@pytest.mark.parametrize("package", LAYERS)
def test_a_package_imports_only_those_below_it(package: str) -> None:
    forbidden = LAYERS.keys() - LAYERS[package] - {package}
    offences = [
        f"{name_of(path)} imports {name}"
        for path in (ROOT / package).rglob("*.py")
        for name in all_imports(path)
        if name.split(".")[0] in forbidden
    ]
    assert not offences


def test_imports_are_absolute() -> None:
    relative = [
        f"{name_of(path)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative


@pytest.mark.parametrize("dependency", HOMES)
def test_each_heavy_dependency_has_one_home(dependency: str) -> None:
    offences = [
        name_of(path)
        for path in sources()
        if dependency in {name.split(".")[0] for name in all_imports(path)}
        and not any(
            name_of(path) == home or name_of(path).startswith(f"{home}/")
            for home in HOMES[dependency]
        )
    ]
    assert not offences, f"{dependency} belongs to {sorted(HOMES[dependency])} alone"


@pytest.mark.parametrize(
    ("start", "absent"),
    [(module, HEAVY) for module in ANSWER_AT_ONCE]
    + [(module, {"torch"}) for module in WITHOUT_TORCH],
)
def test_light_modules_load_nothing_heavy(start: str, absent: set[str]) -> None:
    if start not in modules():
        pytest.skip(f"{start} does not exist")
    offences = [
        f"{module} (loaded by {origin or 'the test'}) imports {name}"
        for module, origin in reached(start).items()
        for name in loaded_at_import(tree(modules()[module]))
        if name.split(".")[0] in absent
    ]
    assert not offences


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_entrances_are_imported_by_nobody_else(entrance: str) -> None:
    users = {module for module, path in modules().items() if entrance in all_imports(path)}
    assert users <= ENTRANCES[entrance]


def is_output_or_exit(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in {"print", "SystemExit", "exit"}
    return isinstance(node, ast.Attribute) and ast.unparse(node) in {"sys.exit", "sys.stdout"}


def test_only_the_command_line_prints_or_exits() -> None:
    offences = [
        f"{name_of(path)}:{node.lineno} {ast.unparse(node)}"
        for path in sources()
        if name_of(path) not in MAY_PRINT_OR_EXIT
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Name | ast.Attribute) and is_output_or_exit(node)
    ]
    assert not offences


def test_no_function_takes_whatever_it_is_given() -> None:
    offences = [
        f"{name_of(path)}:{function.lineno} {function.name}(**{function.args.kwarg.arg})"
        for path in sources()
        for function in functions(path)
        if function.args.kwarg
    ]
    assert not offences


def test_nothing_is_caught_in_silence() -> None:
    offences = [
        f"{name_of(path)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None
            or (ast.unparse(node.type) in {"Exception", "BaseException"} and is_empty(node.body))
        )
    ]
    assert not offences


def is_empty(body: list[ast.stmt]) -> bool:
    return all(isinstance(statement, ast.Pass | ast.Continue) for statement in body)


def test_files_hold_one_idea() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources() + files_of_tests()}
    too_long = {name_of(path): n for path, n in lengths.items() if n > MAX_FILE_LINES}
    assert not too_long, f"files of more than {MAX_FILE_LINES} lines"


def test_functions_are_short() -> None:
    too_long = {
        f"{name_of(path)}:{function.lineno} {function.name}": function_lines(function)
        for path in sources() + files_of_tests()
        for function in functions(path)
        if function_lines(function) > MAX_FUNCTION_LINES
    }
    assert not too_long, f"functions of more than {MAX_FUNCTION_LINES} lines"


def test_the_folder_of_tests_is_no_package() -> None:
    assert not list(TESTS.rglob("__init__.py"))


def test_names_of_test_files_are_unique() -> None:
    counts = Counter(path.name for path in files_of_tests() if path.name.startswith("test_"))
    assert [name for name, count in counts.items() if count > 1] == []


def test_every_raises_names_the_message() -> None:
    bare = [
        f"{name_of(path)}:{node.lineno}"
        for path in files_of_tests()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "pytest.raises"
        and "match" not in {keyword.arg for keyword in node.keywords}
    ]
    assert not bare


def test_every_tolerated_warning_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    tolerated = tomllib.loads(text)["tool"]["pytest"]["ini_options"]["filterwarnings"][1:]
    lines = [line.strip() for line in text.splitlines()]
    unexplained = [
        lines[at]
        for at in range(len(lines))
        if any(lines[at].startswith(f'"{entry}"'.replace("\\", "\\\\")) for entry in tolerated)
        and "#" not in lines[at] + lines[at - 1]
    ]
    assert not unexplained
