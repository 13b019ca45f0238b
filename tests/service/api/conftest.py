"""The services that tests of the API call."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_support import Clock, Service, service

from service.api.access import Tries


@pytest.fixture(scope="module")
def _standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("service")) as made:
        yield made


@pytest.fixture
def served(_standing: Service) -> Service:
    """A service for tests that change nothing of it."""
    _standing.clock.now = Clock.now
    _standing.client.cookies.clear()
    _standing.client.app.state.tries = Tries()  # type: ignore[attr-defined]
    return _standing


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Service]:
    """A service of this test's own."""
    with service(tmp_path) as made:
        yield made
