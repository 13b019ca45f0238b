"""How the code is written, checked on the source text: who may print, what is caught, how long
things may be."""

import ast
import tomllib
from collections import Counter

from source_tree import ROOT, TESTS, files_of_tests, functions, name_of, sources, tree

MAY_PRINT_OR_EXIT = {
    "service/cli/app.py",
    "service/cli/sweeps.py",
    "service/__main__.py",
    "trainers/__main__.py",
}
MAX_FILE_LINES = 400
MAX_CLASS_LINES = 200
MAX_FUNCTION_LINES = 40


def function_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


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


def test_classes_are_short() -> None:
    too_long = {
        f"{name_of(path)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_CLASS_LINES
    }
    assert not too_long, f"classes of more than {MAX_CLASS_LINES} lines"


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
