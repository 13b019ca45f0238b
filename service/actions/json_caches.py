"""What `kd-sweep cache` prints with `--json`, as types."""

from typing import Any, Literal

from service.actions.json_document import Document


class Bias(Document):
    """How far the soft loss is off by a cache, at a temperature: tau of `fixed`, rho over ln V of
    `cist`. kl, jsd: nats; forward, reverse: of the KL's gradient, relative to it."""

    policy: Literal["fixed", "cist"]
    at: float
    kl: float
    jsd: float
    forward: float
    reverse: float


class Cache(Document):
    """A teacher cache; `conversion`: how far a teacher that was asked in a narrower dtype than its
    own is off, `fingerprints`: of the teacher and the data that it is of."""

    key: str
    folder: str
    bytes: int
    num_positions: int
    hidden_size: int
    dtype: str
    created: str
    storage_error: float
    bias: list[Bias]
    conversion: list[Bias]
    fingerprints: dict[str, str]


class CacheDetails(Cache):
    """A teacher cache with what it was built with."""

    num_shards: int
    attention: str | None
    numerics: dict[str, Any]


class VerifiedCache(Document):
    """A cache that was read; `damaged` are files that are not what was built."""

    key: str
    damaged: list[str]
