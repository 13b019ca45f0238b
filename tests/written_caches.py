"""Teacher caches that were written by hand, not built: nothing here loads torch."""

import json
from pathlib import Path

from trainers.files import fingerprints
from trainers.teachers import cache

SHARD = "train-00000.safetensors"


def write_cache(home: Path, key: str, created: str) -> Path:
    """A cache of one shard of 10 positions, 1000 bytes."""
    folder = home / "caches" / key
    folder.mkdir(parents=True)
    sums = {}
    for name, size in ((SHARD, 1000), (cache.HEAD_FILE, 20), (cache.INDEX_FILE, 30)):
        (folder / name).write_bytes(bytes(size))
        sums[name] = fingerprints.of_file(folder / name)
    shard = {"name": "train-00000", "split": "train", "num_positions": 10, "sha256": sums[SHARD]}
    description = {
        "format": cache.FORMAT,
        "created": created,
        "dtype": "float32",
        "hidden_size": 25,
        "storage_error": 0.0,
        "numerics": {"precision": "float32"},
        "attention": None,
        "shards": [shard],
        "files": {name: sums[name] for name in (cache.HEAD_FILE, cache.INDEX_FILE)},
    }
    (folder / cache.CACHE_FILE).write_text(json.dumps(description))
    return folder
