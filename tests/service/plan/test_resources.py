"""What the machine has for a sweep."""

from pathlib import Path

import pytest

from service.plan import resources as machine


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
