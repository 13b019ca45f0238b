"""Teacher caches: listed, looked into, checked and deleted. Each function takes the folder, or URL,
that holds them; None means the workspace's own."""

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
    """Returns the caches, the newest first."""
    return cache_inventory.list_caches(_folder(workspace, folder))


def show_cache(key: str, workspace: Workspace, *, folder: str | None = None) -> CacheDetails:
    """Returns the cache whose key begins with `key`. Raises `PlanError` for none or several."""
    found = _find(key, _folder(workspace, folder))
    content = cache_inventory.read_description(found)
    return CacheDetails(
        cache_inventory.show(found),
        num_shards=len(content["shards"]),
        attention=content["attention"],
        numerics=content["numerics"],
    )


def verify_caches(
    workspace: Workspace, *, key: str | None = None, folder: str | None = None
) -> list[VerifiedCache]:
    """Reads every byte of the cache whose key begins with `key`, or of all. Raises `PlanError` when
    `key` names none or several."""
    place = _folder(workspace, folder)
    every = [one.folder for one in cache_inventory.list_caches(place)] if key is None else []
    found = every if key is None else [_find(key, place)]
    return [VerifiedCache(one.rsplit("/", 1)[-1], cache_inventory.verify(one)) for one in found]


def prune_caches(
    workspace: Workspace, *, keep_gib: float, folder: str | None = None
) -> list[CacheInfo]:
    """Deletes the oldest caches until at most `keep_gib` are left, and what killed builds left
    behind; returns the deleted ones. Not while a sweep reads them."""
    return cache_inventory.prune(_folder(workspace, folder), keep_bytes=int(keep_gib * GIB))


def _folder(workspace: Workspace, folder: str | None) -> str:
    return folder.rstrip("/") if folder else str(caches_folder(workspace.home))


def _find(key: str, folder: str) -> str:
    try:
        return cache_inventory.find(folder, key)
    except ValueError as error:
        raise PlanError(str(error)) from error
