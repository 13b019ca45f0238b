"""How a trial's workers share its student."""

from enum import StrEnum


class Sharding(StrEnum):
    """ddp: every worker has the whole student; fsdp: its part of each weight, gradient and state of
    the optimiser."""

    DDP = "ddp"
    FSDP = "fsdp"


def check_sharding(sharding: Sharding, *, num_workers: int, place: str) -> None:
    """Raises `ValueError` for a student that would be spread over one worker; `place`: the field
    that says how many there are."""
    if sharding == Sharding.FSDP and num_workers == 1:
        raise ValueError(
            f"sharding: fsdp spreads the student over a trial's workers, so {place} must be at "
            f"least 2, but got 1, where fsdp is useless. Raise {place}, or use sharding: ddp."
        )
