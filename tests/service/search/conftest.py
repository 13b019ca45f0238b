"""The storages that tests of the study run on."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(params=["journal", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Both kinds of storage that a study is kept in."""
    if request.param == "journal":
        yield str(tmp_path / "study" / "study.log")
    else:
        yield f"sqlite:///{tmp_path / 'study.db'}"


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(tmp_path / "study.log")
