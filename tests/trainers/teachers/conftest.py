"""One small teacher cache for all tests of it, and a copy to damage."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cache_support import planned

from trainers.teachers import cache_build
from trainers.teachers.cache import CachePlan
from trainers.trial.sources import Prepared


@pytest.fixture(scope="session")
def built(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> CachePlan:
    plan = planned(prepared, tmp_path_factory.mktemp("home"))
    cache_build.build(plan)
    return plan


@pytest.fixture
def own(built: CachePlan, tmp_path: Path) -> CachePlan:
    """A copy of the cache that a test may damage."""
    plan = replace(built, root=tmp_path)
    shutil.copytree(built.folder, plan.folder)
    return plan
