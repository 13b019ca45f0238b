"""Builds a teacher cache, shard by shard. Several processes can build one cache together: each
shard is built by one of them, and a shard that is finished outlives the process."""

import errno
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from trainers import numerics
from trainers.files import fingerprints, store
from trainers.files.json_files import read_object
from trainers.parts import Data, Split
from trainers.signal import OutputHead
from trainers.teachers import bias, cache, sampling
from trainers.teachers.cache import CachePlan, CacheRequest, DiskFull, Shard
from trainers.teachers.online import OnlineTeacher
from trainers.teachers.storing import Storing

SHARD_BYTES = 64 << 20
HEADER_BYTES = 4096
# From how many positions the shape of a tail is taken, and on how many the bias is measured.
SHAPE_POSITIONS, BIAS_POSITIONS = 2048, 512


def plan_cache(request: CacheRequest, root: Path, *, shard_bytes: int = SHARD_BYTES) -> CachePlan:
    """Returns the plan of the cache in folder `root` for a prepared teacher and data: nothing is
    built or loaded but descriptions, except that the teacher's weights are hashed."""
    runtime = request.task.runtime()
    data = request.open_data()
    hidden_size = runtime.hidden_size(request.teacher, data, trust=request.trust_remote_code)
    row_bytes = cache.bytes_of_position(
        request.storage, hidden_size=hidden_size, vocab_size=data.num_classes
    )
    _check_k(request.storage, data.num_classes)
    rows_per_shard = max(1, shard_bytes // row_bytes)
    shards = [s for split in data.splits.values() for s in _shards(split, rows_per_shard)]
    rows = sum(shard.num_positions for shard in shards)
    width = hidden_size + 1 if cache.k_of(request.storage) is None else 1
    head_bytes = data.num_classes * width * 4
    key = cache.key_of(
        request,
        example_ids={name: split.example_ids.tolist() for name, split in data.splits.items()},
        data=data.cache_key(),
    )
    return CachePlan(
        key=key,
        root=root,
        request=request,
        hidden_size=hidden_size,
        shards=tuple(shards),
        bytes=rows * row_bytes + head_bytes + HEADER_BYTES * (len(shards) + 2),
    )


def build_shard(plan: CachePlan, number: int, *, wait: bool = True) -> bool:
    """Builds shard `number` unless it is there; returns whether it is there now. With `wait` False,
    a shard that another process is building is left to that process."""
    shard = plan.shards[number]
    if plan.is_built(shard):
        return True
    lock = plan.root / f".{plan.key}.{shard.name}.lock"
    with store.locked(lock, wait=wait) as held:
        # asked again: another process may have built it, and even published all, since the first
        if held and not plan.is_built(shard):
            plan.building.mkdir(parents=True, exist_ok=True)
            _write_shard(plan, shard)
        return plan.is_built(shard)


def publish(plan: CachePlan) -> Path:
    """Makes the cache of its built shards and returns its folder. Raises `ValueError` when a shard
    is missing."""
    with store.locked(plan.lock):
        if plan.is_published:
            return plan.folder
        missing = [shard.name for shard in plan.shards if not plan.is_built(shard)]
        if missing:
            raise ValueError(
                f"teacher cache: all {len(plan.shards)} shards must be built before it is "
                f"published, but {missing[0]} is missing."
            )
        _describe(plan)
        # What is there without a description is no cache: a deletion that was cut off left it. The
        # rename makes all files of the new one visible at once.
        shutil.rmtree(plan.folder, ignore_errors=True)
        plan.building.replace(plan.folder)
    # A process that still waits for one of these locks holds the file open; it finds its shard
    # published when it gets the lock, so no second build can start under a new file of that name.
    for lock in plan.root.glob(f".{plan.key}.*.lock"):
        lock.unlink(missing_ok=True)
    return plan.folder


def build(plan: CachePlan, progress: Callable[[int, int], None] = lambda done, of: None) -> Path:
    """Builds and publishes the cache in this process, beside others that do the same, and returns
    its folder. `progress` is called with how many shards are done, and of how many. Raises
    `DiskFull`; then no unfinished cache is left on the disk."""
    cache.reopen(plan)
    if plan.is_published:
        return plan.folder
    check_disk(plan)
    count = len(plan.shards)
    try:
        left_to_others = []
        for number in range(count):
            progress(number, count)
            if not build_shard(plan, number, wait=False):
                left_to_others.append(number)
        # Waits for the others' shards, and builds those whose process died: its lock is free then.
        for number in left_to_others:
            build_shard(plan, number)
        progress(count, count)
        return publish(plan)
    except (OSError, SafetensorError) as error:
        if not _says_disk_full(error):
            raise
        discard(plan)
        raise DiskFull(_disk_full(plan)) from error


def _says_disk_full(error: Exception) -> bool:
    """Whether the disk was full. safetensors passes the system's error on as text."""
    number = getattr(error, "errno", None)
    return number == errno.ENOSPC or f"(os error {errno.ENOSPC})" in str(error)


def check_disk(plan: CachePlan) -> None:
    """Raises `DiskFull` when the disk has no room for what is still to be built."""
    plan.root.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for path in plan.building.glob("*"))
    if plan.bytes - there > shutil.disk_usage(plan.root).free:
        raise DiskFull(_disk_full(plan))


def discard(plan: CachePlan) -> None:
    """Deletes what is built of an unpublished cache."""
    shutil.rmtree(plan.building, ignore_errors=True)


def _disk_full(plan: CachePlan) -> str:
    free = shutil.disk_usage(plan.root).free
    return (
        f"teacher cache: the disk of {plan.root} must have room for "
        f"{plan.bytes / 1e6:.1f} MB, but got {free / 1e6:.1f} MB free. "
        "Free some, or train with the online teacher."
    )


def _shards(split: Split, rows_per_shard: int) -> list[Shard]:
    """Cuts a split into runs of examples of at most `rows_per_shard` positions; an example is never
    cut, so one with more positions is a shard of its own."""
    bounds, first, rows = [], 0, 0
    for example, count in enumerate(split.num_learned.tolist()):
        if rows and rows + count > rows_per_shard:
            bounds.append((first, example, rows))
            first, rows = example, 0
        rows += count
    bounds.append((first, len(split), rows))
    return [
        Shard(f"{split.name}-{number:05d}", split.name, *bound)
        for number, bound in enumerate(bounds)
    ]


def _check_k(storage: str, vocab_size: int) -> None:
    k = cache.k_of(storage)
    if k is not None and k >= vocab_size:
        raise ValueError(
            f"teacher_cache.top_k: it must be less than the {vocab_size} entries of the "
            f"vocabulary, but got {k}. Leave it out: a cache of hidden states is exact."
        )


def measure_bias(plan: CachePlan) -> list[dict[str, object]]:
    """Returns how far trials that read the cache are off (`bias.BiasRow` by temperature), measured
    on the first validation examples before anything is built; nothing of an exact cache, or of one
    that was built when this was not measured."""
    if plan.is_published:
        found: list[dict[str, object]] = cache.read_description(plan.folder).get("bias", [])
        return found
    path = plan.building / cache.BIAS_FILE
    if plan.request.is_exact or path.is_file():
        return [] if plan.request.is_exact else list(json.loads(path.read_text()))
    plan.building.mkdir(parents=True, exist_ok=True)
    numerics.apply(plan.request.numerics)
    teacher, data = _teacher(plan.request)
    _make_head(plan, teacher, data)
    shape = sampling.mean_logits(teacher, data.splits["train"], SHAPE_POSITIONS)
    answers = sampling.answers(teacher, data.splits["validation"], BIAS_POSITIONS)
    storing = Storing.into(plan.building, plan.request.storage, teacher.head)
    rows = bias.measure(((storing.exact(each), storing.back(each)) for each in answers), shape)
    store.write_text(path, json.dumps(rows))
    return rows


def measure_conversion(plan: CachePlan) -> list[dict[str, object]]:
    """Returns, as `measure_bias` does, how far the teacher in the dtype that it is asked in is from
    the one in that of its stored weights (`CacheRequest.full`); nothing where these are the same,
    or the latter does not fit into memory. Both are loaded, one after the other."""
    request, path = plan.request, plan.building / cache.CONVERSION_FILE
    if plan.is_published:
        found: list[dict[str, object]]
        found = cache.read_description(plan.folder).get("conversion", [])
        return found
    if request.full is None or path.is_file():
        return [] if request.full is None else list(json.loads(path.read_text()))
    plan.building.mkdir(parents=True, exist_ok=True)
    numerics.apply(request.numerics)
    try:
        head, states, shape = _said_in_full(request)
    except torch.OutOfMemoryError:
        return []
    teacher, data = _teacher(request)
    answers = sampling.answers(teacher, data.splits["validation"], BIAS_POSITIONS)
    pairs = zip(states, answers, strict=True)
    logits = ((head.logits(full), teacher.head.logits(asked)) for full, asked in pairs)
    rows = bias.measure(logits, shape)
    store.write_text(path, json.dumps(rows))
    return rows


def _said_in_full(request: CacheRequest) -> tuple[OutputHead, list[Tensor], Tensor]:
    """What the teacher says in its own dtype: its head, hidden states of some positions, and the
    mean [V] of centred logits. The rest of it is let go of by the next one that is loaded."""
    assert request.full is not None
    teacher, data = _teacher(replace(request, dtype=request.full))
    states = list(sampling.answers(teacher, data.splits["validation"], BIAS_POSITIONS))
    shape = sampling.mean_logits(teacher, data.splits["train"], SHAPE_POSITIONS)
    return teacher.head, states, shape


def _write_shard(plan: CachePlan, shard: Shard) -> None:
    numerics.apply(plan.request.numerics)
    teacher, data = _teacher(plan.request)
    _make_head(plan, teacher, data)
    exact = _hidden(teacher, data.splits[shard.split], shard, plan.request.numerics["device"])
    storing = Storing.into(plan.building, plan.request.storage, teacher.head)
    stored, error = storing.store(exact)
    path = plan.building / f"{shard.name}.safetensors"
    temporary = path.with_suffix(f".{time.monotonic_ns()}.tmp")
    try:
        save_file({"hidden": stored}, temporary)
        described = {
            **asdict(shard),
            "hidden_size": stored.shape[1],
            "sha256": fingerprints.of_file(temporary),
            # recorded with the cache: what storing less costs is known before a trial reads it
            "storage_error": error,
        }
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    # Last, since a shard counts as built once its description exists: a process that is killed
    # before this line leaves a file that the next one overwrites.
    store.write_text(path.with_suffix(".json"), json.dumps(described))


_LOADED: dict[tuple[str, ...], tuple[OnlineTeacher, Data]] = {}


def _teacher(request: CacheRequest) -> tuple[OnlineTeacher, Data]:
    """The teacher and its data, kept from one shard to the next."""
    what = (request.teacher, request.data, request.numerics, request.dtype, request.attention)
    key = tuple(map(str, (*what, request.seen)))
    if key not in _LOADED:
        _LOADED.clear()  # before the new one is loaded: two may not fit into memory
        runtime = request.task.runtime()
        data = request.open_data()
        model = runtime.load_model(
            request.teacher,
            torch.device(request.numerics["device"]),
            attention=request.attention,
            dtype=getattr(torch, request.dtype),
            trust=request.trust_remote_code,
            gpus=request.gpus,
        )
        # A cache keeps hidden states and the head. Where the model did more than that, everything
        # trained from the cache would be wrong without a sign of it.
        runtime.check_model(model, data)
        _LOADED[key] = (OnlineTeacher(runtime.network(model, data.num_classes)), data)
    return _LOADED[key]


def release() -> None:
    """Lets go of the teacher that building kept loaded."""
    _LOADED.clear()


def _hidden(teacher: OnlineTeacher, split: Split, shard: Shard, device: str) -> Tensor:
    """Hidden states [positions, D] of a shard's examples, in the data's order, on the CPU."""
    examples = np.arange(shard.first, shard.last)
    starts = np.concatenate([[0], np.cumsum(split.num_learned[examples])])
    hidden: Tensor | None = None
    # The teacher sees examples of like length together, so its answers come in another order than
    # the shard's: each example's rows are copied to where they belong.
    for group in split.groups(examples, device):
        batch = split.collate(group).to(torch.device(device))
        states = teacher.signal(batch).hidden.cpu()
        if hidden is None:
            hidden = torch.empty(int(starts[-1]), states.shape[1], dtype=states.dtype)
        at = 0
        for example in group.tolist():
            start, stop = starts[example - shard.first], starts[example - shard.first + 1]
            hidden[start:stop] = states[at : at + stop - start]
            at += int(stop - start)
    assert hidden is not None, "a shard has at least one example"
    return hidden


def _make_head(plan: CachePlan, teacher: OnlineTeacher, data: Data) -> None:
    """Writes what makes logits of stored rows, unless it is there. Two processes may both write it:
    it says the same, and each renames its own file."""
    path = plan.building / cache.HEAD_FILE
    if path.is_file():
        return
    k = cache.k_of(plan.request.storage)
    if k is None:
        tensors, scalars = _head_content(teacher.head)
    else:
        shape = sampling.mean_logits(teacher, data.splits["train"], SHAPE_POSITIONS)
        tensors, scalars = {"shape": shape.cpu()}, {"k": json.dumps(k)}
    temporary = path.with_suffix(f".{time.monotonic_ns()}.tmp")
    save_file(tensors, temporary, metadata=scalars)
    temporary.replace(path)


def _head_content(head: OutputHead) -> tuple[dict[str, Tensor], dict[str, str]]:
    # Clones, because safetensors refuses a view on a larger storage, such as the real vocabulary's
    # rows of a padded matrix.
    tensors = {"weight": head.weight.detach().cpu().contiguous().clone()}
    if head.bias is not None:
        tensors["bias"] = head.bias.detach().cpu().contiguous().clone()
    scalars = {
        "soft_cap": json.dumps(head.soft_cap),
        "scale": json.dumps(head.scale),
        "is_identity": json.dumps(head.is_identity),
    }
    return tensors, scalars


def _describe(plan: CachePlan) -> None:
    """Writes the index and, last, `cache.json`, which makes the folder a cache."""
    folder = plan.building
    if not (folder / cache.HEAD_FILE).is_file():  # it was damaged in an older build
        _make_head(plan, *_teacher(plan.request))
    shards = [
        read_object(folder / f"{shard.name}.json", cache.SHARD_FIELDS) for shard in plan.shards
    ]
    index: dict[str, Tensor] = {}
    for name, split in plan.request.open_data().splits.items():
        place = _places(split, [shard for shard in plan.shards if shard.split == name])
        # sorted by id, so that a reader finds its examples by binary search
        order = np.argsort(split.example_ids, kind="stable")
        index[f"{name}.example_id"] = torch.from_numpy(split.example_ids[order])
        index[f"{name}.shard"] = torch.from_numpy(place[0][order])
        index[f"{name}.row"] = torch.from_numpy(place[1][order])
    save_file(index, folder / cache.INDEX_FILE)
    content = {
        "format": cache.FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "dtype": plan.request.storage,
        "hidden_size": shards[0]["hidden_size"],
        "storage_error": max(shard["storage_error"] for shard in shards),
        "bias": measure_bias(plan),
        "conversion": measure_conversion(plan),
        "fingerprints": dict(plan.request.fingerprints),
        "numerics": plan.request.numerics,
        "attention": plan.request.attention,
        "shards": shards,
        "files": {
            name: fingerprints.of_file(folder / name)
            for name in (cache.HEAD_FILE, cache.INDEX_FILE)
        },
    }
    for shard in plan.shards:
        (folder / f"{shard.name}.json").unlink()
    for name in (cache.BIAS_FILE, cache.CONVERSION_FILE):
        (folder / name).unlink(missing_ok=True)
    store.write_text(folder / cache.CACHE_FILE, json.dumps(content, indent=2))


def _places(split: Split, shards: list[Shard]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each example, the number of its shard among its split's, and its first row there."""
    number, row = np.zeros(len(split), np.int64), np.zeros(len(split), np.int64)
    for i, shard in enumerate(shards):
        counts = split.num_learned[shard.first : shard.last]
        number[shard.first : shard.last] = i
        row[shard.first : shard.last] = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return number, row
