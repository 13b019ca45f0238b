"""A cache whose description is damaged is named, hides no other, and reaches no other folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.actions.cache import list_caches, prune_caches, show_cache, verify_caches
from service.errors import PlanError
from service.workspace import Workspace
from trainers.teachers import cache

GOOD: dict[str, Any] = {
    "format": cache.FORMAT,
    "created": "2026-01-01T00:00:00+00:00",
    "dtype": "float32",
    "hidden_size": 8,
    "storage_error": 0,
    "numerics": {},
    "attention": None,
    "shards": [{"name": "train-0", "split": "train", "num_positions": 3, "sha256": "x"}],
    "files": {"head.safetensors": "x"},
}
DAMAGED = {
    "nothing": b"",
    "half": b'{"format": 2, "sha',
    "a list": b"[]",
    "no text": b"\xff\xfe",
    "no shards": json.dumps(GOOD | {"shards": 3}).encode(),
    "shards of another form": json.dumps(GOOD | {"shards": [1]}).encode(),
    "a size in words": json.dumps(GOOD | {"hidden_size": "8"}).encode(),
    "another dtype": json.dumps(GOOD | {"dtype": "int4"}).encode(),
    "files elsewhere": json.dumps(GOOD | {"files": {"../../x": "y"}}).encode(),
    "a shard elsewhere": json.dumps(
        GOOD | {"shards": [GOOD["shards"][0] | {"name": "/etc/x"}]}
    ).encode(),
}


def write(home: Path, key: str, content: bytes) -> Path:
    folder = home / "caches" / key
    folder.mkdir(parents=True)
    (folder / cache.CACHE_FILE).write_bytes(content)
    return folder


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_cache_is_named_and_hides_no_other(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = Workspace(home=tmp_path)
    write(tmp_path, "good", json.dumps(GOOD).encode())
    folder = write(tmp_path, "bad", content)
    with pytest.raises(ValueError, match=rf"{folder}/cache.json: .*Delete the cache"):
        cache.read_description(folder)
    assert [one.key for one in list_caches(workspace)] == ["good"]
    assert f"left out: teacher cache: {folder}" in caplog.text
    assert show_cache("good", workspace).info.num_positions == 3
    found = {one.key: one.damaged for one in verify_caches(workspace)}
    assert found == {"bad": ["cache.json"], "good": ["train-0.safetensors", "head.safetensors"]}
    assert [one.key for one in prune_caches(workspace, keep_gib=0)] == ["good"]


def test_a_place_that_nothing_here_can_open_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cache: nothing://x: must be a folder or a URL"):
        list_caches(Workspace(home=tmp_path), "nothing://x")
