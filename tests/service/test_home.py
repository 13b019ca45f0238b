"""Where everything that a user makes is stored."""

from pathlib import Path

import pytest

from service.home import home_folder


def test_the_home_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KD_SWEEP_HOME", str(tmp_path / "here"))
    assert home_folder() == tmp_path / "here"
    monkeypatch.delenv("KD_SWEEP_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home_folder() == tmp_path / ".kd-sweep"
