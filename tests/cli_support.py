"""A working folder, a sweep's document, and the command line called in this process."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from service.actions import plan as planning
from service.cli.main import app
from service.plan.resources import Resources

CONFIG = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 1, "n_positions": 64}
ROWS = [({"instruction": f"Say {n}", "input": "", "output": str(n)}) for n in range(8)]


def make_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with data in it, on a machine of two CPUs."""
    write_lines(tmp_path / "train.jsonl", ROWS)
    write_lines(tmp_path / "validation.jsonl", ROWS[:3])
    monkeypatch.chdir(tmp_path)
    two = Resources(num_cpus=2, disk_free=10**12)
    monkeypatch.setattr(planning, "local_resources", lambda where: two)
    return tmp_path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def document(**changes: Any) -> dict[str, Any]:
    return {
        "name": "cli",
        "teacher": {"config": CONFIG},
        "student": {"config": CONFIG},
        "tokenizer": {"train": {"vocab_size": 300}},
        "data": {
            "train": "train.jsonl",
            "validation": "validation.jsonl",
            "max_tokens": 64,
            "max_prompt_tokens": 48,
        },
        "training": {"steps": 2},
        "search": {"tau": {"float": [0.5, 8], "log": True}},
        "trials": 3,
    } | changes


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def plan(folder: Path, spec: dict[str, Any] | str, *arguments: str) -> Result:
    text = spec if isinstance(spec, str) else yaml.safe_dump(spec, sort_keys=False)
    (folder / "sweep.yaml").write_text(text)
    return call("plan", "sweep.yaml", *arguments)


def assert_refused(result: Result, exit_code: int, *parts: str) -> None:
    assert result.exit_code == exit_code, result.output
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output
    for part in parts:
        assert part in result.stderr


def rows_of(*arguments: str) -> list[dict[str, Any]]:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found
