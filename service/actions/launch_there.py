"""Sweeps that a service hands to its cluster in the order of its line: each a Ray job, once."""

import logging
import time
from pathlib import Path
from typing import Any

from service.actions.launch import BEGUN, LOCK, ORDER, LaunchEnd, Launches, is_free, write_end
from service.cluster import dashboard
from service.cluster import job as jobs
from service.cluster.job import read_order
from service.cluster.sweep_job import SweepJob, all_jobs, jobs_of
from service.errors import JobError
from service.signals import STOPPED_EXIT_CODE
from service.states import TrialState

logger = logging.getLogger(__name__)
LOOK_S = 5.0  # between looks at which jobs have ended
FORGOTTEN = "the cluster does not know its job any more"
EXIT_CODES = {TrialState.COMPLETED: 0, TrialState.CANCELLED: STOPPED_EXIT_CODE}


class ClusterLaunches(Launches):
    """The launches in a home folder as jobs of the workspace's cluster. A job runs on whatever
    becomes of the service, so one that has begun runs until the cluster says that it has ended."""

    runs_unlocked = True
    _looked_at = float("-inf")

    def look_again(self) -> None:
        """Has the next `begin_next` look which jobs have ended, however soon it comes."""
        self._looked_at = float("-inf")

    def _begin(self, folder: Path) -> bool:
        with (folder / LOCK).open("a") as lock:
            if not is_free(lock):
                return False
            try:
                client = dashboard.connect(self.workspace.require_cluster())
            except JobError as error:
                logger.warning("the line waits: %s", error)
                return False
            try:
                self._submit(client, folder)
            except JobError as error:
                write_end(folder, LaunchEnd(exit_code=error.exit_code, message=str(error)))
            (folder / BEGUN).touch()
        return True

    def _submit(self, client: Any, folder: Path) -> None:
        order, cluster = read_order(folder / ORDER), self.workspace.require_cluster()
        known = jobs_of(client, order.plan.sweep_id)
        # Of a sweep whose driver runs nothing enters the line: that job is of this launch, and
        # whoever submitted it was killed before it could say so.
        if not known or known[-1].is_over:
            jobs.submit(client, order, again=True, environment=cluster.environment)

    def _reap(self) -> None:
        running = [one for one in self.all() if one.entry.runs]
        if not running or time.monotonic() < self._looked_at + LOOK_S:
            return
        self._looked_at = time.monotonic()
        try:
            client: Any = dashboard.connect(self.workspace.require_cluster())
            newest = {one.sweep_id: one for one in all_jobs(client)}
        except JobError as error:
            logger.warning("nobody knows which sweeps have ended: %s", error)
            return
        for launch in running:
            end = _end_of(newest.get(launch.sweep_id))
            if end is not None:
                write_end(launch.folder, end)


def _end_of(job: SweepJob | None) -> LaunchEnd | None:
    if job is None:
        return LaunchEnd(exit_code=JobError.exit_code, message=FORGOTTEN)
    if not job.is_over:
        return None
    return LaunchEnd(exit_code=EXIT_CODES.get(job.state, JobError.exit_code), message=job.message)
