"""The one table of trial states: ours, and what Optuna and MLflow call them. `docs/states.md` walks
through them. And what the trials of a controlled study are for."""

from enum import StrEnum


class TrialState(StrEnum):
    """A trial's state in the command line, JSON and reports."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED_EARLY = "stopped_early"
    DIVERGED = "diverged"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more will happen to the trial by itself."""
        return self not in (TrialState.PENDING, TrialState.RUNNING)


class Role(StrEnum):
    """What a trial of a controlled study is for."""

    COMPARED = "compared"
    TUNING = "tuning"  # it only chooses its cell's learning rate, and is never compared


FINISHED = frozenset({TrialState.COMPLETED, TrialState.STOPPED_EARLY})
"""The states whose trials have an objective that counts: what MLflow calls FINISHED."""

MLFLOW_STATUS: dict[TrialState, str] = {
    TrialState.PENDING: "SCHEDULED",
    TrialState.RUNNING: "RUNNING",
    TrialState.COMPLETED: "FINISHED",
    TrialState.STOPPED_EARLY: "FINISHED",
    TrialState.DIVERGED: "FAILED",
    TrialState.FAILED: "FAILED",
    TrialState.CANCELLED: "KILLED",
}

OPTUNA_STATE: dict[TrialState, str] = {
    TrialState.PENDING: "WAITING",
    TrialState.RUNNING: "RUNNING",
    TrialState.COMPLETED: "COMPLETE",
    TrialState.STOPPED_EARLY: "PRUNED",
    TrialState.DIVERGED: "PRUNED",
    TrialState.FAILED: "FAIL",
    TrialState.CANCELLED: "WAITING",  # held back, since it may be taken up under its number
}
