"""Every error a user can meet, as one tree.

    SweepError
    ├─ SpecError        the document is wrong                      exit 2
    ├─ PlanError        right document, cannot run here            exit 3
    ├─ JobError         cluster refused, lost or stopped           exit 4
    ├─ TrackingError    MLflow unreachable, or run not found       exit 5
    ├─ TrialError       a trial failed after its retries           recorded, exit 1
    └─ RerunMismatch    rerun finished, numbers differ             exit 6

Each takes one message, which says where, which rule, what came instead and what to do; one argument
also lets the classes survive pickling when they cross a process boundary.
"""

from trainers.files.urls import without_secrets


class SweepError(Exception):
    """Root of all errors that kd-sweep raises on purpose; `exit_code` is the command line's.
    Passwords and tokens in the message's URLs are hidden: it is shown, logged and recorded."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(without_secrets(message))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it in a notebook: what the command line shows; `%debug` still finds
        where it was raised."""
        return [f"error: {self}"]


class SpecError(SweepError):
    """The sweep document is wrong."""

    exit_code = 2


class PlanError(SweepError):
    """The document is right, but it cannot run here."""

    exit_code = 3


class JobError(SweepError):
    """The cluster refused the job, lost it, or it was stopped."""

    exit_code = 4


class TrackingError(SweepError):
    """MLflow cannot be reached, or holds no such run."""

    exit_code = 5


class NotRecorded(TrackingError):
    """MLflow answers, and holds no such sweep or run."""


class TrialError(SweepError):
    """A trial failed after its retries; recorded on its run."""


class RerunMismatch(SweepError):
    """A rerun finished, and its numbers differ."""

    exit_code = 6
