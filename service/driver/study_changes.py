"""What to change in a sweep's Optuna study before its trials run: trials to repeat, an earlier
sweep to learn from.

Plain data, so that it travels to a Ray job as JSON.
"""

from pydantic import BaseModel, ConfigDict


class StudyChanges(BaseModel):
    """retry: numbers of trials to repeat; retry_failed: all failed ones; warm_start: id of an
    earlier sweep in the same storage, whose finished trials the sampler learns from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retry: tuple[int, ...] = ()
    retry_failed: bool = False
    warm_start: str | None = None
