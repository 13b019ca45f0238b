"""What the doctor finds, and what it says to do."""

from pathlib import Path

import pytest
from records_support import make_store

from service.actions import doctor
from service.words import GIB


def test_a_healthy_machine_has_nothing_to_do(tmp_path: Path) -> None:
    uri = make_store(tmp_path)
    findings = {one.name: one for one in doctor.examine(tmp_path, uri)}
    assert list(findings) == ["Python", "torch", "Ray", "Optuna", "MLflow", "disk", "Docker"]
    for name in ("Python", "Ray", "Optuna", "MLflow"):
        assert findings[name].works
        assert findings[name].remedy == ""


def test_an_old_python_is_named() -> None:
    finding = doctor.check_python((3, 10), "3.10.4")
    assert not finding.works
    assert finding.remedy == "Install Python 3.11 or newer."


def test_a_gpu_that_torch_cannot_use_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(doctor, "count_gpus", lambda: 2)
    finding = doctor.check_torch()
    assert not finding.works
    assert "the machine has 2" in finding.found
    assert "TORCH_INDEX" in finding.remedy


def test_a_missing_package_is_a_finding() -> None:
    finding = doctor.check_package("no-such-package-here", "Nothing", "does nothing")
    assert (finding.works, finding.remedy) == (False, "Run make install.")


def test_little_disk_and_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    assert doctor.check_disk(tmp_path, 100 * GIB).works
    assert "Free some disk" in doctor.check_disk(tmp_path, GIB).remedy
    (tmp_path / "file").write_text("")
    refused = doctor.check_disk(tmp_path / "file" / "home", 100 * GIB)
    assert "KD_SWEEP_HOME" in refused.remedy


def test_a_tracking_server_that_is_away_says_so(tmp_path: Path) -> None:
    finding = doctor.check_store(tmp_path, "http://127.0.0.1:9")
    assert not finding.works
    assert "127.0.0.1:9" in finding.remedy


def test_docker_is_wanted_but_not_needed() -> None:
    def away() -> str:
        raise OSError("no socket\nand more")

    finding = doctor.check_docker(away)
    assert (finding.works, finding.needed, finding.found) == (False, False, "no socket")
    assert doctor.check_docker(lambda: "27.1").found == "27.1"
