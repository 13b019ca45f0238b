"""A sweep's jobs as a cluster knows them: what state they are in, and which one a user means.

A sweep's jobs are the attempts of its driver: `<sweep id>`, `<sweep id>-a2`, … At most one of them
runs at a time.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from service.errors import JobError
from service.events import from_line
from service.signals import STOPPED_EXIT_CODE
from service.states import TrialState
from service.which import sweeps_meant
from trainers.nearest import nearest

ORDER = "order.json"
SWEEP = "kd_sweep"
STATES = {
    "PENDING": TrialState.PENDING,
    "RUNNING": TrialState.RUNNING,
    "SUCCEEDED": TrialState.COMPLETED,
    "FAILED": TrialState.FAILED,
    "STOPPED": TrialState.CANCELLED,
}
ERROR = "error: "  # what the command line begins an error with


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep. `message`: why it failed, empty otherwise; `name`: the sweep's; `is_new`:
    this call submitted it."""

    sweep_id: str
    submission_id: str
    state: TrialState
    message: str = ""
    name: str = ""
    is_new: bool = False

    @property
    def is_over(self) -> bool:
        """Whether its driver has ended."""
        return self.state.is_terminal

    def to_json(self) -> dict[str, Any]:
        """Returns the row of `--json`."""
        return {
            "sweep_id": self.sweep_id,
            "job": self.submission_id,
            "state": str(self.state),
            "message": self.message or None,
        }

    def to_row(self) -> dict[str, Any]:
        """Returns the row of `submit --json`."""
        return self.to_json() | {"is_new": self.is_new}


def state_of(info: Any) -> TrialState:
    """Returns our state of a job that Ray describes: to Ray, a driver that its user stopped has
    failed, since it ends with an exit code of its own."""
    if getattr(info, "driver_exit_code", None) == STOPPED_EXIT_CODE:
        return TrialState.CANCELLED
    return STATES[str(getattr(info.status, "value", info.status))]


def reason_of(message: str) -> str:
    """Returns why a job failed, of Ray's message: what the driver said last in the log that follows
    there, without its events."""
    said = [line for line in message.strip().splitlines() if from_line(line) is None]
    errors = [number for number, line in enumerate(said) if line.startswith(ERROR)]
    if errors:
        return "\n".join(said[errors[-1] :]).removeprefix(ERROR)
    return " … ".join(dict.fromkeys(said[:1] + said[-1:]))


def jobs_of(client: Any, sweep_id: str) -> list[SweepJob]:
    """Returns the sweep's driver jobs, the oldest first."""
    return [job for job in all_jobs(client) if job.sweep_id == sweep_id]


def all_jobs(client: Any) -> list[SweepJob]:
    """Returns the driver jobs of all sweeps that the cluster knows, the oldest first."""
    with answers("list its jobs"):
        known = client.list_jobs()
    found = [job for job in known if job.submission_id and SWEEP in job.metadata]
    # The small jobs that `control` submits have the same metadata.
    drivers = [job for job in found if " drive " in f" {job.entrypoint} "]
    return [_sweep_job(job) for job in sorted(drivers, key=lambda job: job.start_time or 0)]


def find_job(client: Any, reference: str) -> SweepJob:
    """Returns the newest job of the sweep: an id, a unique beginning of one, a name, or `latest`.
    Raises `JobError` with the nearest ids when there is none."""
    jobs = all_jobs(client)
    found = sweeps_meant(reference, [(job.sweep_id, job.name) for job in reversed(jobs)])
    if len(found) != 1:
        ids = list(dict.fromkeys(job.sweep_id for job in jobs))
        raise JobError(
            f"sweep '{reference}': exactly one sweep on this cluster must be meant, but got "
            f"{len(found)}.{nearest(reference, ids)} The newest: {', '.join(ids[-5:]) or 'none'}."
        )
    return [job for job in jobs if job.sweep_id == found[0]][-1]


@contextmanager
def answers(task: str) -> Iterator[None]:
    """Names a dashboard that went away after `connect`, or refuses."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # what Ray and requests make of it
        raise JobError(
            f"cluster: its dashboard must {task}, but got: {str(error).strip()}. Does it still run?"
        ) from error


def _sweep_job(info: Any) -> SweepJob:
    state = state_of(info)
    return SweepJob(
        sweep_id=info.metadata[SWEEP],
        submission_id=info.submission_id,
        state=state,
        message=reason_of(info.message or "") if state is TrialState.FAILED else "",
        name=_name_in(info.metadata.get(ORDER, "")),
    )


def _name_in(order: str) -> str:
    """Returns the sweep's name in a job's order; of any version, so not all of it is checked."""
    try:
        return str(json.loads(order)["plan"]["spec"]["name"])
    except (ValueError, LookupError, TypeError):
        return ""
