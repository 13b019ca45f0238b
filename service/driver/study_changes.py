"""What to change in a sweep's Optuna study before its trials run: trials to repeat.

Plain data, so that it travels to a Ray job as JSON.
"""

from pydantic import BaseModel, ConfigDict


class StudyChanges(BaseModel):
    """retry: numbers of trials to repeat; retry_failed: all failed ones."""

    # Orders of jobs that an older version submitted hold more, which is the plan's now.
    model_config = ConfigDict(extra="ignore", frozen=True)

    retry: tuple[int, ...] = ()
    retry_failed: bool = False
