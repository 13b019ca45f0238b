"""The services that tests of clients talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from api_support import service
from cli_support import document
from client_support import Listening, listening


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    """A service of this test's own, with a sweep's file where it works."""
    with service(tmp_path) as made, listening(made) as server:
        monkeypatch.chdir(server.here.folder)
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(document()))
        yield server
