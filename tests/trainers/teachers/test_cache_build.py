"""Building a cache: whole or absent, resumed, shared between builders, mended where damaged."""

import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cache_support import SMALL_SHARD, damage, opened, planned
from safetensors import SafetensorError

from trainers.teachers import cache, cache_build, cache_inventory, storing
from trainers.teachers.cache import CachePlan
from trainers.trial.sources import Prepared


def test_it_has_several_shards_of_about_the_wanted_size(built: CachePlan) -> None:
    assert len(built.shards) > 4
    sizes = [(built.folder / f"{shard.name}.safetensors").stat().st_size for shard in built.shards]
    assert max(sizes) < SMALL_SHARD + cache_build.HEADER_BYTES


def test_the_plan_knows_the_size_beforehand(built: CachePlan) -> None:
    actual = cache_inventory.show(built.folder).bytes
    assert 0.6 * built.bytes < actual <= built.bytes


def test_hidden_states_beyond_float16_are_refused(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "LARGEST_FLOAT16", 1e-3)
    plan = planned(prepared, tmp_path, storage="float16")
    with pytest.raises(ValueError, match=r"must be at most 0.001 for float16, but got"):
        cache_build.build(plan)


def test_a_flipped_byte_is_named_and_only_its_shard_is_built_again(
    own: CachePlan, prepared: Prepared
) -> None:
    hit = own.shards[2].name + ".safetensors"
    whole = {path.name: path.stat().st_mtime_ns for path in own.folder.glob("*.safetensors")}
    good = (own.folder / hit).read_bytes()
    damage(own.folder / hit)
    assert cache_inventory.verify(own.folder) == [hit]
    with pytest.raises(ValueError, match=rf"but got {hit} \(other bytes\). Build again"):
        opened(own, prepared)
    cache_build.build(own)
    assert cache_inventory.verify(own.folder) == []
    assert (own.folder / hit).read_bytes() == good
    again = {path.name: path.stat().st_mtime_ns for path in own.folder.glob("train*.safetensors")}
    assert {name for name, stamp in again.items() if whole[name] != stamp} == {hit}
    opened(own, prepared)


@pytest.mark.parametrize("name", [cache.HEAD_FILE, cache.INDEX_FILE])
def test_a_damaged_head_or_index_is_named_and_made_again(
    own: CachePlan, prepared: Prepared, name: str
) -> None:
    damage(own.folder / name)
    with pytest.raises(ValueError, match=rf"but got {name}"):
        opened(own, prepared)
    cache_build.build(own)
    opened(own, prepared)


def build_slowly(plan: CachePlan, pause: float) -> None:
    torch.set_num_threads(1)
    original = cache_build._hidden

    def slow(*arguments: Any) -> Any:
        time.sleep(pause)
        return original(*arguments)

    cache_build._hidden = slow
    cache_build.build(plan)


def test_a_killed_build_goes_on_at_its_shard(
    built: CachePlan, prepared: Prepared, tmp_path: Path
) -> None:
    plan = replace(built, root=tmp_path)
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=build_slowly, args=(plan, 0.3))
    worker.start()
    deadline = time.monotonic() + 120
    reached = random.randrange(1, sum(shard.split == "train" for shard in plan.shards))
    while len(list(plan.building.glob("*.json"))) < reached and time.monotonic() < deadline:
        time.sleep(0.01)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(60)
    assert not plan.is_published and cache_inventory.list_caches(tmp_path) == []
    done = {
        path.name: path.stat().st_mtime_ns for path in plan.building.glob("train-*.safetensors")
    }
    assert reached <= len(done) < len(plan.shards), f"killed at shard {reached}"
    whole = {name for name in done if (plan.building / name).with_suffix(".json").is_file()}
    cache_build.build(plan)
    for name in whole:
        assert (plan.folder / name).stat().st_mtime_ns == done[name]
    assert cache_inventory.verify(plan.folder) == []
    for shard in plan.shards:
        name = shard.name + ".safetensors"
        assert (plan.folder / name).read_bytes() == (built.folder / name).read_bytes()


def test_two_builders_of_one_cache_share_the_work(built: CachePlan, tmp_path: Path) -> None:
    plan = replace(built, root=tmp_path)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=build_slowly, args=(plan, 0.1)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert cache_inventory.verify(plan.folder) == []
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [plan.key]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left (os error 28)"),
    ],
)
def test_a_full_disk_stops_the_build_and_leaves_nothing(
    built: CachePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    plan = replace(built, root=tmp_path)
    calls: list[Path] = []

    def save(tensors: Any, path: Path, **other: Any) -> None:
        calls.append(path)
        if len(calls) > 3:
            path.write_bytes(b"half")
            raise error
        original(tensors, path, **other)

    original = cache_build.save_file
    monkeypatch.setattr(cache_build, "save_file", save)
    with pytest.raises(ValueError, match=r"teacher cache: the disk of .* must have room for .* MB"):
        cache_build.build(plan)
    left = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert left == []


def test_a_disk_without_room_is_refused_before_anything_is_built(
    built: CachePlan, tmp_path: Path
) -> None:
    huge = replace(built, root=tmp_path, bytes=1 << 60)
    with pytest.raises(ValueError, match=r"must have room for 1152921504606.8 MB, but got"):
        cache_build.build(huge)
    assert not huge.building.exists()


def test_what_is_missing_keeps_a_cache_from_being_published(
    built: CachePlan, tmp_path: Path
) -> None:
    plan = replace(built, root=tmp_path)
    cache_build.build_shard(plan, 0)
    with pytest.raises(
        ValueError, match=r"shards must be built before .* but train-00001 is missing"
    ):
        cache_build.publish(plan)


def test_progress_counts_shards(built: CachePlan, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    plan = replace(built, root=tmp_path)
    cache_build.build(plan, lambda done, of: heard.append((done, of)))
    count = len(plan.shards)
    assert heard == [(done, count) for done in range(count + 1)]
