"""What is wrong with a machine, and what there is to do about it."""

from pathlib import Path

import pytest
from records_support import make_store

from service.actions import doctor
from service.words import GIB
from service.workspace import Workspace


def test_a_healthy_machine_has_nothing_to_do(tmp_path: Path) -> None:
    make_store(tmp_path)
    found = {one.name: one for one in doctor.examine(Workspace(tmp_path))}
    assert list(found) == ["Python", "torch", "Ray", "Optuna", "MLflow", "disk", "Docker"]
    for name in ("Python", "Ray", "Optuna", "MLflow"):
        assert found[name].works
        assert found[name].remedy == ""
        assert found[name].to_json()["needed"]


def test_an_old_python_is_named() -> None:
    diagnosis = doctor.check_python((3, 10), "3.10.4")
    assert not diagnosis.works
    assert diagnosis.remedy == "Install Python 3.11 or newer."


def test_a_gpu_that_torch_cannot_use_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(doctor, "count_gpus", lambda: 2)
    diagnosis = doctor.check_torch()
    assert not diagnosis.works
    assert "the machine has 2" in diagnosis.found
    assert "TORCH_INDEX" in diagnosis.remedy


def test_a_missing_package_is_reported() -> None:
    diagnosis = doctor.check_package("no-such-package-here", "Nothing", "does nothing")
    assert (diagnosis.works, diagnosis.remedy) == (False, "Run make install.")


def test_little_disk_and_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    assert doctor.check_disk(tmp_path, 100 * GIB).works
    assert "Free some disk" in doctor.check_disk(tmp_path, GIB).remedy
    (tmp_path / "file").write_text("")
    refused = doctor.check_disk(tmp_path / "file" / "home", 100 * GIB)
    assert "KD_SWEEP_HOME" in refused.remedy


def test_a_tracking_server_that_is_away_says_so(tmp_path: Path) -> None:
    diagnosis = doctor.check_store(tmp_path, "http://127.0.0.1:9")
    assert not diagnosis.works
    assert "127.0.0.1:9" in diagnosis.remedy


def test_docker_is_wanted_but_not_needed() -> None:
    def away() -> str:
        raise OSError("no socket\nand more")

    diagnosis = doctor.check_docker(away)
    assert (diagnosis.works, diagnosis.needed, diagnosis.found) == (False, False, "no socket")
    assert doctor.check_docker(lambda: "27.1").found == "27.1"
