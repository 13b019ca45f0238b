"""A copy of the three packages with something added to their text, used by another process: what
the README's "to add" table promises, tried out."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent
PACKAGES = ("search_spaces", "trainers", "service")
TIMEOUT_S = 240
# An installation's packages would answer too if the copy were not found first.
RUN = """
import json, runpy, sys
import trainers
root, script, *arguments = sys.argv[1:]
assert trainers.__file__.startswith(root), trainers.__file__
print(json.dumps(runpy.run_path(script)["main"](*arguments)))
"""


def copy_packages(folder: Path) -> Path:
    """Returns `folder` with a copy of the three packages in it."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in PACKAGES:
        shutil.copytree(TESTS.parent / name, folder / name, ignore=ignored)
    return folder


def replace(file: Path, old: str, new: str) -> None:
    """Puts `new` in the place of the text `old`, of which `file` must have exactly one."""
    text = file.read_text()
    assert text.count(old) == 1, f"{file}: {text.count(old)} times {old!r}"
    file.write_text(text.replace(old, new))


def add_points(packages: Path) -> None:
    """Adds the task `points` to copied packages: its folder, its name and its entry."""
    trainers = packages / "trainers"
    shutil.copytree(TESTS / "trainers" / "tasks" / "points", trainers / "tasks" / "points")
    insert(trainers / "trial" / "fields.py", '    POINTS = "points"\n', before="    CAUSAL_LM = ")
    table = trainers / "tasks" / "table.py"
    insert(table, "from trainers.tasks.points.task import Points\n", before="from trainers.trial")
    replace(table, "(CausalLm(), ", "(CausalLm(), Points(), ")


def insert(file: Path, text: str, *, before: str) -> None:
    """Puts `text` before the line that starts with `before`, of which `file` must have exactly
    one."""
    lines = file.read_text().splitlines(keepends=True)
    places = [at for at, line in enumerate(lines) if line.startswith(before)]
    assert len(places) == 1, f"{file}: {len(places)} lines start with {before!r}"
    lines.insert(places[0], text)
    file.write_text("".join(lines))


def run_with(packages: Path, script: Path, *arguments: str) -> Any:
    """Returns what `main(*arguments)` of the Python file `script` returns, a JSON document, in a
    process that has the packages in the folder `packages` and the support modules of the tests."""
    environment = os.environ | {"PYTHONPATH": f"{packages}{os.pathsep}{TESTS}"}
    command = [sys.executable, "-c", RUN, str(packages), str(script), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, cwd=packages
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
