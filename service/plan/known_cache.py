"""What is known of a teacher's cache that is there already."""

from typing import Any

from trainers.trial.strict import Strict


class KnownCache(Strict):
    """What a cache of the sweep's teacher says of itself. stored: as in its `dtype`; bias,
    conversion: rows of `trainers.teachers.bias`."""

    stored: str
    bias: list[dict[str, Any]] = []
    conversion: list[dict[str, Any]] = []
