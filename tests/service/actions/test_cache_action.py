"""Teacher caches through the actions: found in a workspace, read, deleted."""

from pathlib import Path

import pytest
from written_caches import SHARD, write_cache

from service.actions.cache import list_caches, prune_caches, show_cache, verify_caches
from service.errors import PlanError
from service.workspace import Workspace

NEW, OLD = "b" * 20, "a" * 20


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    write_cache(tmp_path, OLD, "2026-01-01T00:00:00+00:00")
    write_cache(tmp_path, NEW, "2026-02-01T00:00:00+00:00")
    return Workspace(tmp_path)


def test_caches_are_those_of_the_workspace_or_of_a_folder(
    workspace: Workspace, tmp_path: Path
) -> None:
    assert [one.key for one in list_caches(workspace)] == [NEW, OLD]
    assert list_caches(workspace, str(tmp_path / "elsewhere")) == []
    assert [one.key for one in list_caches(Workspace(Path("/nowhere")), f"{tmp_path}/caches/")] == [
        NEW,
        OLD,
    ]


def test_a_cache_shows_what_it_was_built_with(workspace: Workspace) -> None:
    found = show_cache("bb", workspace)
    assert (found.info.key, found.num_shards, found.attention) == (NEW, 1, None)
    assert found.to_json()["numerics"] == {"precision": "float32"}
    with pytest.raises(PlanError, match="names 0.*Known: b+, a+"):
        show_cache("c", workspace)


def test_every_byte_of_one_or_all_is_read(workspace: Workspace) -> None:
    (workspace.home / "caches" / OLD / SHARD).write_bytes(b"other")
    assert {one.key: one.damaged for one in verify_caches(workspace)} == {NEW: [], OLD: [SHARD]}
    assert [one.to_json() for one in verify_caches(workspace, key="b")] == [
        {"key": NEW, "damaged": []}
    ]


def test_the_oldest_are_deleted_until_the_rest_fits(workspace: Workspace) -> None:
    size = list_caches(workspace)[0].bytes
    assert [one.key for one in prune_caches(workspace, keep_gib=1.5 * size / 1024**3)] == [OLD]
    assert [one.key for one in list_caches(workspace)] == [NEW]
