"""Where caches stand together, a folder or a URL of fsspec (s3://, …): listed, checked and pruned.
No torch."""

import hashlib
import logging
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainers.files import store
from trainers.files.urls import file_system, is_url
from trainers.teachers import cache
from trainers.teachers.cache import CACHE_FILE

logger = logging.getLogger(__name__)
PIECE_BYTES = 1 << 24


@dataclass(frozen=True)
class CacheInfo:
    """One cache, as `cache list` shows it; folder: its path or URL; hidden_size: numbers of a
    stored position, or bytes of its packed largest logits; bias: `bias.BiasRow` by temperature,
    none of an exact one; conversion: the same of the teacher that was asked against the one that is
    stored, none where it was asked as it is; fingerprints: of the teacher and the data that it is
    of."""

    key: str
    folder: str
    bytes: int
    num_positions: int
    hidden_size: int
    dtype: str
    created: str
    storage_error: float
    bias: list[dict[str, Any]] = field(default_factory=list)
    conversion: list[dict[str, Any]] = field(default_factory=list)
    fingerprints: dict[str, str] = field(default_factory=dict)


def list_caches(place: str | Path) -> list[CacheInfo]:
    """Returns all complete caches at `place`, the newest first; one whose description is damaged is
    warned of, and hides no other."""
    infos = []
    for folder in list_folders(place):
        try:
            infos.append(show(folder))
        except ValueError as error:
            logger.warning("left out: %s", error)
    return sorted(infos, key=lambda info: info.created, reverse=True)


def list_folders(place: str | Path) -> list[str]:
    """Returns the folder of each complete cache at `place`, by name, undamaged or not."""
    system, root = file_system(place)
    if not system.isdir(root):
        return []
    names = sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in system.ls(root, detail=False))
    found = [f"{place}/{name}" for name in names if not name.startswith(".")]
    return [folder for folder in found if is_complete(folder)]


def is_complete(folder: str | Path) -> bool:
    """Whether there is a cache in `folder`; whether its bytes are right is what `verify` says."""
    system, root = file_system(folder)
    return bool(system.exists(f"{root}/{CACHE_FILE}"))


def is_being_built(root: Path, key: str) -> bool:
    """Whether a process builds a shard of that cache now."""
    for path in root.glob(f".{key}.*.lock"):
        with store.locked(path, wait=False) as held:
            if not held:
                return True
    return False


def find(place: str | Path, key: str) -> str:
    """Returns the folder of the cache whose key starts with `key`. Raises `ValueError` for none or
    several."""
    known = list_caches(place)
    found = [info for info in known if info.key.startswith(key)]
    if len(found) != 1:
        names = ", ".join(info.key for info in known) or "none"
        raise ValueError(
            f"cache: the key must name one cache, but got '{key}', which names {len(found)}. "
            f"Known: {names}."
        )
    return found[0].folder


def show(folder: str | Path) -> CacheInfo:
    """Returns what the description of a cache says; nothing is checked."""
    system, root = file_system(folder)
    content = read_description(folder)
    return CacheInfo(
        key=root.rstrip("/").rsplit("/", 1)[-1],
        folder=str(folder),
        bytes=sum(file["size"] for file in system.ls(root, detail=True)),
        num_positions=sum(shard["num_positions"] for shard in content["shards"]),
        hidden_size=content["hidden_size"],
        dtype=content["dtype"],
        created=content["created"],
        storage_error=content["storage_error"],
        bias=content.get("bias", []),
        conversion=content.get("conversion", []),
        fingerprints=content.get("fingerprints", {}),
    )


def read_description(folder: str | Path) -> dict[str, Any]:
    """Returns the content of a cache's `cache.json`. Raises `ValueError` for another format."""
    system, root = file_system(folder)
    return cache.parse_description(system.cat_file(f"{root}/{CACHE_FILE}"), folder)


def verify(folder: str | Path) -> list[str]:
    """Returns the names of the files whose bytes are not what was written; reads all of them."""
    system, root = file_system(folder)
    try:
        expected = cache.checksums(read_description(folder))
    except ValueError:
        return [CACHE_FILE]
    return [
        name
        for name, checksum in expected.items()
        if not system.exists(f"{root}/{name}") or _hash(system, f"{root}/{name}") != checksum
    ]


def prune(place: str | Path, *, keep_bytes: int) -> list[CacheInfo]:
    """Deletes the oldest caches until at most `keep_bytes` are left, and what killed builds left
    behind; returns the deleted caches. A cache that is being built stays."""
    if not is_url(str(place)):
        _clear_builds(Path(place))
    kept, deleted = 0, []
    for info in list_caches(place):
        kept += info.bytes
        if kept > keep_bytes:
            delete(info.folder)
            kept -= info.bytes
            deleted.append(info)
    return deleted


def delete(folder: str | Path) -> None:
    """Deletes one cache; its description goes first, so that what a cut-off deletion leaves does
    not count as a cache."""
    system, root = file_system(folder)
    system.rm_file(f"{root}/{CACHE_FILE}")
    system.rm(root, recursive=True)


def describe(info: CacheInfo) -> dict[str, Any]:
    """Returns `info` as plain data."""
    return asdict(info)


def _hash(system: Any, path: str) -> str:
    digest = hashlib.sha256()
    with system.open(path, "rb", block_size=PIECE_BYTES) as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _clear_builds(root: Path) -> None:
    for left in root.glob(".*.building"):
        if not is_being_built(root, left.name[1 : -len(".building")]):
            shutil.rmtree(left)
