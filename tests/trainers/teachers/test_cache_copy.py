"""Caches behind fsspec: copied whole or not at all, read from a bounded copy, the same to the
bit."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from cache_support import CPU, cached_trial, opened, splits
from training_support import Recorder, trial

from trainers.teachers import cache, cache_copy, cache_inventory
from trainers.teachers.cache import CachePlan
from trainers.teachers.cached import CachedTeacher
from trainers.training.run import run_trial
from trainers.trial.sources import Prepared


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    """An object store that lives in this process."""
    url = f"memory://{tmp_path.name}"
    yield url
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def test_a_path_is_used_where_it_lies(built: CachePlan) -> None:
    assert cache_copy.local(str(built.folder)) == built.folder


def test_a_copy_is_made_once_and_reads_the_same(
    built: CachePlan, prepared: Prepared, bucket: str, tmp_path: Path
) -> None:
    url = cache_copy.upload(built.folder, bucket)
    copy = cache_copy.local(url, root=tmp_path)
    assert copy == tmp_path / built.key
    stamp = (copy / cache.CACHE_FILE).stat().st_mtime_ns
    assert cache_copy.local(url, root=tmp_path) == copy
    assert (copy / cache.CACHE_FILE).stat().st_mtime_ns == stamp
    examples = np.array([3, 1])
    ours = CachedTeacher(copy, splits(prepared), CPU).hidden("train", examples)
    assert ours.equal(opened(built, prepared).hidden("train", examples))


def test_a_trial_reads_its_cache_from_a_url(
    built: CachePlan,
    prepared: Prepared,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache_copy.tempfile, "gettempdir", lambda: str(tmp_path))
    file = cached_trial(trial(prepared, generation_prompts=0), built)
    near = run_trial(file, tmp_path / "near", reporter=Recorder())
    url = cache_copy.upload(built.folder, bucket)
    paths = file.paths.model_copy(update={"teacher_cache": url})
    far = run_trial(file.model_copy(update={"paths": paths}), tmp_path / "far", reporter=Recorder())
    assert far.weights_sha256 == near.weights_sha256


def test_a_half_uploaded_cache_is_none(built: CachePlan, bucket: str, tmp_path: Path) -> None:
    url = cache_copy.upload(built.folder, bucket)
    system, root = fsspec.core.url_to_fs(url)
    system.rm(f"{root}/{cache.CACHE_FILE}")
    with pytest.raises(ValueError, match="must be a complete cache, but it has no description"):
        cache_copy.local(url, root=tmp_path)
    assert not (tmp_path / built.key).exists()


def test_a_cache_beyond_the_bound_is_refused(built: CachePlan, bucket: str, tmp_path: Path) -> None:
    url = cache_copy.upload(built.folder, bucket)
    with pytest.raises(ValueError, match="a node's copy must fit into 0.0 MB, but memory"):
        cache_copy.local(url, root=tmp_path, keep_bytes=1000)


def test_the_copy_that_was_not_used_for_longest_makes_room(
    built: CachePlan, bucket: str, tmp_path: Path
) -> None:
    url = cache_copy.upload(built.folder, bucket)
    system, root = fsspec.core.url_to_fs(url)
    for name in ("older", "newer"):
        system.copy(root, root.replace(built.key, name), recursive=True)
        copied = cache_copy.local(url.replace(built.key, name), root=tmp_path)
        assert copied.is_dir()
    size = cache_inventory.show(tmp_path / "newer").bytes
    cache_copy.local(url, root=tmp_path, keep_bytes=int(2.5 * size))
    left = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert left == {"newer", built.key}
