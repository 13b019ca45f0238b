"""Caches on storage that is slow or not a file system (fsspec: s3://, nfs behind file://, …): put
there once, read from a bounded copy on the node's own disk."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from trainers.files import store
from trainers.files.urls import file_system, is_url
from trainers.teachers import cache, cache_inventory

KEEP_BYTES = 200 << 30
USED_FILE = ".used"


def upload(folder: Path, url: str) -> str:
    """Copies a complete cache below `url` and returns its own URL. Its description is written last,
    so that an incomplete copy does not count as a cache."""
    target = f"{url.rstrip('/')}/{folder.name}"
    system, root = file_system(target)
    system.makedirs(root, exist_ok=True)
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    for name in sorted(names, key=lambda name: (name == cache.CACHE_FILE, name)):
        system.put_file(str(folder / name), f"{root}/{name}")
    return target


def local(place: str, *, root: Path | None = None, keep_bytes: int = KEEP_BYTES) -> Path:
    """Returns a folder of this node with the cache that `place` names: itself when it is a path,
    else a copy under `root` (default: the node's temporary folder), made once for all workers of
    the node. Copies that were not used for longest make room beyond `keep_bytes`. Raises
    `ValueError` when there is no complete cache, or it is larger than the bound."""
    if not is_url(place):
        return Path(place)
    root = root or Path(tempfile.gettempdir()) / "kd-sweep-caches"
    target = root / place.rstrip("/").rsplit("/", 1)[-1]
    store.once(target, lambda folder: _download(place, folder, keep_bytes))
    (target / USED_FILE).touch()
    _make_room(root, target, keep_bytes)
    return target


def _download(url: str, folder: Path, keep_bytes: int) -> None:
    system, source = file_system(url)
    if not cache_inventory.is_complete(url):
        raise ValueError(
            f"teacher cache: {url} must be a complete cache, but it has no description."
        )
    files: list[dict[str, Any]] = system.ls(source, detail=True)
    total = sum(file["size"] for file in files)
    free = shutil.disk_usage(folder).free
    if total > min(keep_bytes, free):
        raise ValueError(
            f"teacher cache: a node's copy must fit into {min(keep_bytes, free) / 1e6:.1f} MB, but "
            f"{url} has {total / 1e6:.1f} MB. Free some disk, or train with the online teacher."
        )
    for file in files:
        name = file["name"].rstrip("/").rsplit("/", 1)[-1]
        system.get_file(file["name"], str(folder / name))


def _make_room(root: Path, current: Path, keep_bytes: int) -> None:
    with store.locked(root / ".room.lock"):
        copies = [path.parent for path in root.glob(f"*/{cache.CACHE_FILE}")]
        copies.sort(key=lambda copy: (copy == current, _last_used(copy)), reverse=True)
        kept = 0
        for copy in copies:
            kept += sum(path.stat().st_size for path in copy.iterdir())
            if kept > keep_bytes and copy != current:
                cache_inventory.delete(copy)


def _last_used(copy: Path) -> float:
    used = copy / USED_FILE
    return used.stat().st_mtime if used.exists() else 0.0
