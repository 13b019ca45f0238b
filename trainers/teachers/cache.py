"""The teacher cache on disk: what it is keyed by, how it is laid out and checked.

A cache is a folder `<root>/<key>`: shards of last hidden states (safetensors, one row for each
learned position), the output head, an index from example to shard and row, and `cache.json` with
sizes and checksums. It is built in `<root>/.<key>.building` and renamed when complete. No torch.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainers.files import fingerprints, store
from trainers.files.json_files import checked_object, parse_json, read_object
from trainers.files.model_files import stored_dtype
from trainers.parts import Data, Task
from trainers.trial.facts import CACHED_INPUTS
from trainers.trial.seen import ALL, Seen
from trainers.trial.trial_file import TrialFile

# Raise it when hidden states or their layout come out differently for the same inputs.
FORMAT = 2
CACHE_FILE, HEAD_FILE, INDEX_FILE = "cache.json", "head.safetensors", "index.safetensors"
# Of a cache that is not exact: how far trials that read it are off, as long as it is built.
BIAS_FILE = "bias.json"
# The same of a teacher that is asked in a narrower dtype than its own.
CONVERSION_FILE = "conversion.json"
VERIFIED_FILE = ".verified.json"
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# Instead of hidden states, the k largest logits of each position and a fitted tail: top64.
TOP = re.compile(r"top([1-9]\d{0,3})")
KEY_LENGTH = 20
FIELDS: dict[str, type] = {
    "created": str,
    "dtype": str,
    "hidden_size": int,
    "storage_error": float,
    "numerics": dict,
    "shards": list,
    "files": dict,
}
BIAS_FIELDS: dict[str, type] = {"policy": str, "at": float, "forward": float, "reverse": float}
SHARD_FIELDS: dict[str, type] = {"name": str, "split": str, "num_positions": int, "sha256": str}


def k_of(storage: str) -> int | None:
    """Returns how many logits of a position are stored; None where hidden states are."""
    found = TOP.fullmatch(storage)
    return None if found is None else int(found[1])


def bytes_of_position(storage: str, *, hidden_size: int, vocab_size: int) -> int:
    """Returns the bytes of one position of a cache; of the k largest logits as `TopKHead` packs
    them."""
    k = k_of(storage)
    if k is None:
        return hidden_size * BYTES[storage]
    return 12 + 4 * k + 2 * ((vocab_size - 1) // (1 << 16))


class DiskFull(ValueError):
    """The disk has no room for a cache."""


@dataclass(frozen=True)
class CacheRequest:
    """What decides the content of a cache, and where its inputs are.

    numerics: resolved ones of the build; dtype: that the teacher computes in; storage: the same for
    an exact cache, or float16 | bfloat16 | top<k> to store less; gpus: over which the teacher is
    spread; fingerprints: of teacher and data, by which a plan finds the cache (both are no part of
    the content); seen: what trials ask about.
    """

    task: Task
    teacher: Path
    data: Path
    numerics: dict[str, Any]
    attention: str | None
    dtype: str
    storage: str
    trust_remote_code: bool = False
    gpus: int = 1
    seen: Seen = ALL
    fingerprints: Mapping[str, str] = field(default_factory=dict, compare=False)

    def open_data(self) -> Data:
        """Returns the data whose examples the cache holds. Loads torch."""
        return self.task.runtime().open_data(self.data, seen=self.seen)

    @property
    def full(self) -> str | None:
        """The dtype of the teacher's weights as they are stored, where it is asked in a narrower
        one; None where it is asked as it is, or its weights are not plain numbers. Raises
        `ValueError` for damaged weights."""
        stored = stored_dtype(self.teacher)
        return None if self.dtype in (stored, "float32") else stored

    def __post_init__(self) -> None:
        if self.storage not in BYTES and not k_of(self.storage):
            raise ValueError(
                f"teacher_source: a cache must store one of {', '.join(BYTES)}, or top<k>, "
                f"but got '{self.storage}'."
            )

    @property
    def is_exact(self) -> bool:
        """Whether the cache says what the teacher does, to the bit."""
        return self.storage == self.dtype

    @classmethod
    def of_trial(cls, trial: TrialFile, task: Task, storage: str | None = None) -> "CacheRequest":
        """Returns the request for the cache that serves `trial`, of `task`, and every other with
        the same teacher, data, precision and attention. `storage` None is exact: what the
        teacher emits. Raises `ValueError` when the trial has no teacher or no resolved numerics."""
        if trial.paths.teacher is None or not trial.numerics:
            raise ValueError(
                "teacher cache: the trial must have a teacher and resolved numerics, "
                f"but got teacher={trial.paths.teacher}, numerics={trial.numerics}."
            )
        dtype = trial.teacher_dtype or trial.numerics["precision"]
        return cls(
            task=task,
            teacher=Path(trial.paths.teacher),
            data=Path(trial.paths.data),
            numerics=trial.numerics,
            attention=trial.config.attention_implementation,
            dtype=dtype,
            storage=storage or dtype,
            trust_remote_code=trial.trusts("teacher"),
            seen=Seen.by(trial.config),
            fingerprints={
                name: trial.fingerprints[name]
                for name in CACHED_INPUTS
                if name in trial.fingerprints
            },
        )


@dataclass(frozen=True)
class Shard:
    """Some examples of one split that follow each other: `first` to before `last` in the data."""

    name: str
    split: str
    first: int
    last: int
    num_positions: int


@dataclass(frozen=True)
class CachePlan:
    """A cache to be built in the folder `root`: its key, its shards, and about how many bytes it
    takes."""

    key: str
    root: Path
    request: CacheRequest
    hidden_size: int
    shards: tuple[Shard, ...]
    bytes: int

    @property
    def folder(self) -> Path:
        """Where the complete cache is stored."""
        return self.root / self.key

    @property
    def building(self) -> Path:
        """Where its parts are stored until it is complete."""
        return self.root / f".{self.key}.building"

    @property
    def lock(self) -> Path:
        """Held by the process that publishes the cache or takes it back."""
        return self.root / f".{self.key}.lock"

    @property
    def is_published(self) -> bool:
        """Whether the cache is complete; whether its bytes are right is what `verify` says."""
        return (self.folder / CACHE_FILE).is_file()

    def is_built(self, shard: Shard) -> bool:
        """Whether a shard's file is complete (its description is written after it)."""
        folder = self.folder if self.is_published else self.building
        return (folder / f"{shard.name}.json").is_file() or self.is_published


def key_of(
    request: CacheRequest, *, example_ids: dict[str, list[int]], data: dict[str, Any]
) -> str:
    """Returns the key: a hash of everything that decides a hidden state. The examples' order is no
    part of it; `data` are facts of the tokenised data (tokenizer, vocabulary)."""
    return fingerprints.of_document(
        {
            "format": FORMAT,
            "teacher": fingerprints.of_model(request.teacher),
            "precision": request.dtype,
            # device and threads are left out: they change no more than the last bits
            "matmul_precision": request.numerics["matmul_precision"],
            "attention": request.attention,
            "storage_dtype": request.storage,
            "data": data,
            "examples": {
                name: fingerprints.of_document(sorted(ids)) for name, ids in example_ids.items()
            },
        }
    )[:KEY_LENGTH]


def read_description(folder: Path) -> dict[str, Any]:
    """Returns the content of `cache.json`. Raises `ValueError` when there is none or of another
    format."""
    path = folder / CACHE_FILE
    if not path.is_file():
        raise ValueError(
            f"teacher cache: {folder} must be a complete cache, but {CACHE_FILE} is missing."
        )
    return parse_description(path.read_bytes(), folder)


def parse_description(content: bytes, folder: str | Path) -> dict[str, Any]:
    """Returns the description that was read in `folder`. Raises `ValueError` naming it for a
    damaged one, and for another format."""
    place = f"{folder}/{CACHE_FILE}"
    try:
        found = checked_object(parse_json(content, place), place, {"format": int})
        if found["format"] == FORMAT:
            return _checked(found, place)
    except ValueError as error:
        raise ValueError(f"teacher cache: {error} Delete the cache; it is built again.") from error
    raise ValueError(
        f"teacher cache: {folder} must be of format {FORMAT}, but got {found['format']}. "
        "Delete it; it is built again."
    )


def _checked(content: dict[str, Any], place: str) -> dict[str, Any]:
    checked_object(content, place, FIELDS)
    if content["dtype"] not in BYTES and not k_of(content["dtype"]):
        raise ValueError(f"{place}: dtype: must be one of {', '.join(BYTES)}, or top<k>.")
    for row in (*content.get("bias", ()), *content.get("conversion", ())):
        checked_object(row, f"{place}: bias", BIAS_FIELDS)
    for shard in content["shards"]:
        checked_object(shard, f"{place}: shards", SHARD_FIELDS)
    for name, checksum in checksums(content).items():
        # Files of these names are read, and removed where they are damaged.
        if Path(name).name != name or not isinstance(checksum, str):
            raise ValueError(f"{place}: must name files of its folder, but got {name!r:.60}.")
    return content


def checksums(content: dict[str, Any]) -> dict[str, str]:
    """Returns the SHA-256 of each file that a description names."""
    shards = {shard["name"] + ".safetensors": shard["sha256"] for shard in content["shards"]}
    return {**shards, **content["files"]}


def check(folder: Path) -> None:
    """Raises `ValueError` naming the files of a cache that are damaged. A file that was found
    undamaged is not read again as long as its size and time stay the same, so a trial opens at
    once."""
    known = _read_verified(folder)
    damaged = _damaged(folder, known)
    if damaged:
        names = ", ".join(f"{name} ({why})" for name, why in damaged)
        raise ValueError(
            f"teacher cache: every file in {folder} must have the checksum of its build, "
            f"but got {names}. Build again: only what is damaged is made again."
        )
    stamps = {name: _stamp(folder / name) for name in checksums(read_description(folder))}
    # where nothing can be written, the files are read again the next time
    if stamps != known and os.access(folder, os.W_OK):
        # named after this process and call: the workers of a slot check the same cache at once
        temporary = folder / f"{VERIFIED_FILE}.{os.getpid()}-{id(stamps)}.tmp"
        temporary.write_text(json.dumps(stamps))
        temporary.replace(folder / VERIFIED_FILE)


def reopen(plan: CachePlan) -> list[str]:
    """Takes a damaged cache back into building, without its damaged files; returns their names.
    After that, `build` makes only those."""
    with store.locked(plan.lock):
        if not plan.is_published:
            return []
        try:
            description = read_description(plan.folder)
        except ValueError:
            # What its shards hold is known no more, so nothing of it can be kept.
            shutil.rmtree(plan.folder)
            return [CACHE_FILE]
        damaged = [name for name, _ in _damaged(plan.folder)]
        if not damaged:
            return []
        # The description of a cache holds those of its shards. They are written out again first, so
        # that the shards still count as built when the cache no longer counts as published.
        for shard in description["shards"]:
            if shard["name"] + ".safetensors" not in damaged:
                (plan.folder / f"{shard['name']}.json").write_text(json.dumps(shard))
        # with its description the folder stops being a cache, before anything else is moved
        for name in {*damaged, CACHE_FILE, VERIFIED_FILE}:
            (plan.folder / name).unlink(missing_ok=True)
        shutil.rmtree(plan.building, ignore_errors=True)
        plan.folder.replace(plan.building)
        return damaged


def _damaged(folder: Path, known: dict[str, list[int]] | None = None) -> list[tuple[str, str]]:
    found = []
    for name, expected in checksums(read_description(folder)).items():
        path = folder / name
        if not path.is_file():
            found.append((name, "missing"))
        elif known is not None and known.get(name) == _stamp(path):
            continue
        elif fingerprints.of_file(path) != expected:
            found.append((name, "other bytes"))
    return found


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _read_verified(folder: Path) -> dict[str, list[int]]:
    try:
        return read_object(folder / VERIFIED_FILE)
    except ValueError:
        return {}
