"""Two DDP or FSDP workers with uneven shares of a batch get the gradients of one worker with all
of it."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).with_name("rank_of_two.py")


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rank_of_two", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both ranks wrote."""
    place = tmp_path_factory.mktemp("ranks")
    ranks = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(place)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    for rank in ranks:
        output, _ = rank.communicate(timeout=120)
        assert rank.returncode == 0, output
    return place


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("cist", "cist"),
        ("curriculum", "curriculum"),
        ("sharded-cist", "cist"),
        ("sharded-curriculum", "curriculum"),
        ("look_ahead", "look_ahead"),
        ("sharded-look_ahead", "look_ahead"),
        ("empty-cist", "cist"),
        ("whitened", "whitened"),
        ("sharded-whitened", "whitened"),
        ("empty-whitened", "whitened"),
    ],
)
def test_gradients_are_one_workers(folder: Path, name: str, config: str) -> None:
    script = _script()
    # What looks ahead compares the texts of one micro-batch: each rank's own.
    parts = [slice(*rows) for rows in script.ROWS] if config == "look_ahead" else [slice(None)]
    each = [script.gradients(script.Student(script.CONFIGS[config]), part, 1) for part in parts]
    expected = {key: sum(one[key] for one in each) for key in each[0]}
    learned = {"curriculum": ["loss.temperature.theta"], "look_ahead": ["loss.temperature.m"]}
    assert [key for key in expected if key.startswith("loss.")] == learned.get(config, [])
    for rank in (0, 1):
        found = torch.load(folder / f"{name}-{rank}.pt")
        assert found.keys() == expected.keys()
        for key, gradient in expected.items():
            torch.testing.assert_close(found[key], gradient, rtol=1e-9, atol=1e-12)
