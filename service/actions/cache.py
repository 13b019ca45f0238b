"""Teacher caches: listed, looked into, checked and deleted. Each function takes the folder, or URL,
that holds them; None means the workspace's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from service.errors import PlanError
from service.home import caches_folder
from service.words import GIB
from service.workspace import Workspace
from trainers.teachers import cache_inventory
from trainers.teachers.cache_inventory import CacheInfo


@dataclass(frozen=True)
class CacheDetails:
    """A cache with what it was built with: `numerics` and `attention` of the teacher's forward."""

    info: CacheInfo
    num_shards: int
    attention: str | None
    numerics: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Returns the cache as one JSON object."""
        return cache_inventory.describe(self.info) | {
            "num_shards": self.num_shards,
            "attention": self.attention,
            "numerics": self.numerics,
        }


@dataclass(frozen=True)
class VerifiedCache:
    """A cache of which every byte was read; `damaged` names the files that are not what was
    built."""

    key: str
    damaged: list[str]

    def to_json(self) -> dict[str, Any]:
        """Returns the row of `--json`."""
        return {"key": self.key, "damaged": self.damaged}


def list_caches(workspace: Workspace, folder: str | None = None) -> list[CacheInfo]:
    """Returns the caches, the newest first. Raises `PlanError` for a place that cannot be read."""
    with _errors_explained():
        return cache_inventory.list_caches(_folder(workspace, folder))


def show_cache(key: str, workspace: Workspace, *, folder: str | None = None) -> CacheDetails:
    """Returns the cache whose key begins with `key`. Raises `PlanError` for none or several."""
    with _errors_explained():
        found = cache_inventory.find(_folder(workspace, folder), key)
        content, info = cache_inventory.read_description(found), cache_inventory.show(found)
    return CacheDetails(
        info,
        num_shards=len(content["shards"]),
        attention=content.get("attention"),
        numerics=content["numerics"],
    )


def verify_caches(
    workspace: Workspace, *, key: str | None = None, folder: str | None = None
) -> list[VerifiedCache]:
    """Reads every byte of the cache whose key begins with `key`, or of all. Raises `PlanError` when
    `key` names none or several."""
    place = _folder(workspace, folder)
    with _errors_explained():
        if key is None:
            newest = [one.folder for one in cache_inventory.list_caches(place)]
            found = list(dict.fromkeys([*newest, *cache_inventory.list_folders(place)]))
        else:
            found = [cache_inventory.find(place, key)]
        return [VerifiedCache(one.rsplit("/", 1)[-1], cache_inventory.verify(one)) for one in found]


def prune_caches(
    workspace: Workspace, *, keep_gib: float, folder: str | None = None
) -> list[CacheInfo]:
    """Deletes the oldest caches until at most `keep_gib` are left, and what killed builds left
    behind; returns the deleted ones. Not while a sweep reads them."""
    with _errors_explained():
        return cache_inventory.prune(_folder(workspace, folder), keep_bytes=int(keep_gib * GIB))


def _folder(workspace: Workspace, folder: str | None) -> str:
    return folder.rstrip("/") if folder else str(caches_folder(workspace.home))


@contextmanager
def _errors_explained() -> Iterator[None]:
    """Turns what a folder or an object store refuses into `PlanError`."""
    try:
        yield
    except (OSError, ValueError) as error:
        text = str(error)
        raise PlanError(text if text.startswith("cache: ") else f"cache: {text}") from error
