"""Real English that every machine has: the docstrings of the running Python's standard library; no
torch."""

import ast
import functools
import hashlib
import json
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from trainers.files import store
from trainers.tasks.causal_lm.facts import damaged
from trainers.tasks.causal_lm.record import Record, checked
from trainers.tasks.causal_lm.rows import json_rows

SHORTEST, LONGEST = 20, 400
VALIDATION_SHARE = 10
LEFT_OUT = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo"}
)
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def fingerprint() -> str:
    """Returns the SHA-256 of the names and sizes of the standard library's files, which decide the
    pairs."""
    root = _root()
    listing = "\n".join(f"{path.relative_to(root)} {path.stat().st_size}" for path in _files(root))
    return hashlib.sha256(listing.encode()).hexdigest()


def read(split_name: str, home: Path) -> list[Record]:
    """Returns pairs (instruction: describe this object; response: its docstring's first paragraph),
    no response twice, in an order that mixes modules and never changes. `validation` holds the
    packages whose name hashes to one tenth, `train` the others. Reading the library's source takes
    seconds, so the pairs are kept under `home`."""
    folder = store.once(home / "prepared" / "text" / fingerprint()[:20], _write)
    path = folder / f"{split_name}.jsonl"
    try:
        return [checked(row, place, {}) for place, row in json_rows(path.read_bytes(), str(path))]
    except (OSError, ValueError, TypeError) as error:
        raise damaged(path, folder, error) from error


def _write(folder: Path) -> None:
    pairs: dict[str, list[tuple[str, str]]] = {"train": [], "validation": []}
    for module, instruction, response in _pairs():
        split_name = "validation" if _is_validation(module) else "train"
        pairs[split_name].append((instruction, response))
    for split_name, rows in pairs.items():
        rows.sort(key=lambda row: hashlib.sha256(row[0].encode()).digest())
        lines = [json.dumps({"instruction": i, "response": r}) for i, r in rows]
        (folder / f"{split_name}.jsonl").write_text("\n".join(lines) + "\n")


def _pairs() -> Iterator[tuple[str, str, str]]:
    """Module, instruction and response, each response once."""
    root = _root()
    seen: set[str] = set()
    for path in _files(root):
        module = _module_name(path.relative_to(root))
        for instruction, response in _of_module(module, path):
            if response not in seen:
                seen.add(response)
                yield module, instruction, response


def _root() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


@functools.cache
def _files(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, below, names in os.walk(root):
        below[:] = set(below) - LEFT_OUT  # an environment's packages are many times the library
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(found)


def _module_name(path: Path) -> str:
    parts = [*path.parts[:-1], path.stem]
    return ".".join(part for part in parts if part != "__init__")


def _is_validation(module: str) -> bool:
    package = module.split(".")[0]
    return int(hashlib.sha256(package.encode()).hexdigest(), 16) % VALIDATION_SHARE == 0


def _of_module(module: str, path: Path) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return  # templates and deliberately broken files ship with Python too
    yield from _of_body(module, tree.body)


def _of_body(prefix: str, body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for node in body:
        if not isinstance(node, Documented):
            continue
        name = f"{prefix}.{node.name}"
        text = _first_paragraph(node)
        if text is not None:
            yield _instruction(name, node), text
        if isinstance(node, ast.ClassDef):
            yield from _of_body(name, node.body)


def _first_paragraph(node: Documented) -> str | None:
    text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
    return text if text.isascii() and SHORTEST <= len(text) <= LONGEST else None


def _instruction(name: str, node: Documented) -> str:
    if isinstance(node, ast.ClassDef):
        return f"Describe the class `{name}`."
    arguments = ", ".join(a.arg for a in node.args.args if a.arg not in ("self", "cls"))
    return f"Describe the function `{name}({arguments})`."
