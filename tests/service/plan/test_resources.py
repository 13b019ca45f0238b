"""What the machine has, where things lie, and which code runs."""

import re
from pathlib import Path

import pytest

from service import words
from service.plan import resources as machine


def test_the_home_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KD_SWEEP_HOME", str(tmp_path / "here"))
    assert machine.home_folder() == tmp_path / "here"
    monkeypatch.delenv("KD_SWEEP_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert machine.home_folder() == tmp_path / ".kd-sweep"


@pytest.mark.parametrize(("visible", "count"), [("0,2", 2), ("", 0), ("-1", 0), ("GPU-abc", 1)])
def test_visible_gpus_are_counted(
    visible: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.count_gpus() == count


def test_gpus_are_listed_by_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: one'\necho 'GPU 1: two'\n")
    tool.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert machine.count_gpus() == 2
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert machine.count_gpus() == 0


def test_free_disk_is_asked_where_the_folder_would_be(tmp_path: Path) -> None:
    resources = machine.local_resources(tmp_path / "not" / "yet")
    assert resources.num_cpus >= 1
    assert resources.disk_free is not None and resources.disk_free > 0


def test_the_code_version_follows_the_sources() -> None:
    assert re.fullmatch(r"[\w.]+\+[0-9a-f]{12}", machine.code_version())
    assert machine.code_version() == machine.code_version()


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (words.duration(45), "45 s"),
        (words.duration(600), "10 min"),
        (words.duration(12_000), "3 h 20 min"),
        (words.size(120 * 2**20), "120 MiB"),
        (words.size(3.2 * 2**30), "3.2 GiB"),
        (words.count(12_000), "12,000"),
        (words.count(3_200_000), "3.2 million"),
        (
            words.describe({"tau": 2.0, "divergence": "forward_kl", "beta": None}),
            "forward_kl tau=2",
        ),
        (words.describe({}), "defaults"),
    ],
)
def test_numbers_in_words(shown: str, text: str) -> None:
    assert shown == text
