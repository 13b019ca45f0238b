"""Places that are a folder or the URL of a store that fsspec knows, such as s3://bucket/prefix."""

from pathlib import Path
from typing import Any


def is_url(place: str) -> bool:
    """Returns whether `place` is the URL of a store, not a folder."""
    return "://" in place


def file_system(place: str | Path) -> tuple[Any, str]:
    """Returns the fsspec file system behind a URL or a folder, and the path in it, without a slash
    at its end. The file system remembers no listing: another node may have written there."""
    import fsspec

    system, root = fsspec.core.url_to_fs(str(place))
    system.invalidate_cache()
    return system, str(root).rstrip("/")
