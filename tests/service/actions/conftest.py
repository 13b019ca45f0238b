"""The cluster that tests of actions hand sweeps to."""

import pytest
from fakes import MemoryClient

from service.cluster import dashboard


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> MemoryClient:
    """A cluster that only remembers, in the place of any."""
    made = MemoryClient()
    monkeypatch.setattr(dashboard, "connect", lambda cluster: made)
    return made
