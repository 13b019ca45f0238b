"""Sweeps as Ray jobs: submit, follow, stop. Talks to a cluster through its dashboard alone."""

import asyncio
import platform
import shlex
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.cluster.dashboard import check_takes_jobs
from service.cluster.shipping import ship
from service.cluster.sweep_job import (
    ORDER,
    SWEEP,
    SweepJob,
    answers,
    jobs_of,
    reason_of,
    state_of,
)
from service.driver.study_changes import StudyChanges
from service.errors import JobError
from service.plan.plan import SweepPlan
from service.states import TrialState
from trainers.files.store import write_text
from trainers.files.urls import holds_secret

STOP_TIMEOUT_S = 60.0
START_TIMEOUT_S = 60.0
POLL_S = 0.5
NO_AGENT = "No available agent"  # of Ray, after 10 s


class JobOrder(BaseModel):
    """What a driver in a Ray job has to do; travels as `order.json` beside the code. `changes` has
    the name in JSON that it always had; `python`: the submitter's version, e.g. `3.11`. Ray's own
    is compared by `connect`, before anything is sent."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_by_name=True, serialize_by_alias=True
    )

    plan: SweepPlan
    changes: StudyChanges = Field(default=StudyChanges(), alias="wishes")
    max_driver_restarts: int = 0
    python: str = ".".join(platform.python_version_tuple()[:2])


def submit(
    client: Any,
    order: JobOrder,
    *,
    again: bool = False,
    code: Path | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> SweepJob:
    """Hands the sweep to the cluster and returns its job; when it is there already, returns that
    one (`is_new` false), unless `again` starts another attempt of an ended one.

    code: a folder of the user's own modules to ship beside this project's; environment: variables
    that the driver gets. Raises `JobError` when the cluster refuses, or `again` meets a driver that
    still runs.
    """
    _check_holds_no_secret(environment)
    check_takes_jobs(client)
    sweep_id = order.plan.sweep_id
    known = jobs_of(client, sweep_id)
    if known and not again:
        return known[-1]
    if known and not known[-1].is_over:
        raise JobError(
            f"sweep {sweep_id}: its driver must have ended before another one starts, but got job "
            f"{known[-1].submission_id}, which is {known[-1].state}. Wait, or stop it first: "
            f"kd-sweep stop {sweep_id}."
        )
    # Derived from the sweep's id and not drawn: Ray refuses an id that it has seen, so of two
    # submitters at the same moment only one starts a driver.
    submission_id = sweep_id if not known else f"{sweep_id}-a{len(known) + 1}"
    with TemporaryDirectory(prefix="kd-ship-") as folder:
        ship(Path(folder), code)
        write_text(Path(folder) / ORDER, order.model_dump_json())
        request = {
            "entrypoint": f"python -m service drive {ORDER}",
            "metadata": {SWEEP: sweep_id, ORDER: _metadata_of(order)},
            "runtime_env": {"working_dir": folder, "env_vars": dict(environment)},
        }
        _submit(client, submission_id, request)
    return SweepJob(sweep_id, submission_id, TrialState.PENDING, is_new=True)


def _check_holds_no_secret(environment: Mapping[str, str]) -> None:
    """Raises `JobError` for an address with a password: Ray shows a job's environment."""
    for name, value in environment.items():
        if holds_secret(value):
            raise JobError(
                f"{name}: must hold no password or token where a sweep goes to a cluster, since "
                "Ray shows a job's environment, but got one. Leave it out of the address, and set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, "
                "before `ray start` on every node."
            )


def _metadata_of(order: JobOrder) -> str:
    """Returns the order without the sources of own modules: Ray passes metadata on in an
    environment variable, which they would overflow."""
    plan = order.plan.model_copy(update={"own_modules": {}})
    return order.model_copy(update={"plan": plan}).model_dump_json()


def _submit(client: Any, submission_id: str, request: Mapping[str, Any]) -> None:
    """Submits the job; a cluster that is only just starting is asked again for a while."""
    end = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            client.submit_job(submission_id=submission_id, **request)
            return
        except Exception as error:  # Ray raises RuntimeError, ValueError and its own for a refusal
            # The dashboard answers before the head's agent, which starts jobs, has joined it.
            if NO_AGENT not in str(error):
                raise JobError(f"cluster: the job was refused: {str(error).strip()}") from error
            if time.monotonic() > end:
                raise JobError(
                    "cluster: the head's agent must start the job, but has not answered for "
                    f"{START_TIMEOUT_S:.0f} s. See dashboard_agent.log in the head's folder of "
                    "logs, or start it again: ray start --head."
                ) from error
        time.sleep(POLL_S)


def order_of(client: Any, job: SweepJob) -> JobOrder:
    """Returns what the job's driver was ordered to do; without the sources of own modules."""
    with answers("tell of its job"):
        info = client.get_job_info(job.submission_id)
    return _order_in(info.metadata.get(ORDER, ""), f"job {job.submission_id}: its order")


def logs(client: Any, job: SweepJob, *, follow: bool) -> Iterator[str]:
    """Yields the lines of the driver's log; with `follow` until the job ends."""
    if follow:
        chunks = _chunks(client.tail_job_logs(job.submission_id))
    else:
        chunks = (client.get_job_logs(one) for one in [job.submission_id])
    rest = ""
    with answers("show the driver's log"):
        for chunk in chunks:
            *lines, rest = (rest + chunk).split("\n")
            yield from lines
    if rest:
        yield rest


def _chunks(source: AsyncIterator[str]) -> Iterator[str]:
    """Yields what an asynchronous iterator yields. Its event loop runs in a thread of its own: this
    thread may have a running one, as in a notebook, and cannot run another beside it."""
    loop, worker = asyncio.new_event_loop(), ThreadPoolExecutor(max_workers=1)
    try:
        while True:
            step = worker.submit(loop.run_until_complete, anext(source, None))
            chunk = step.result()
            if chunk is None:
                return
            yield chunk
    finally:
        # Whoever leaves early (Ctrl-C, or a loop that is broken off) does so while a step may wait
        # for the next line: cancelled, it ends, and with it the thread that would keep the process.
        loop.call_soon_threadsafe(_cancel_tasks, loop)
        worker.shutdown()
        loop.close()


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


def wait(
    client: Any,
    job: SweepJob,
    *,
    timeout_s: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> SweepJob:
    """Returns the job when it is over, or as it is after `timeout_s`."""
    end = clock() + timeout_s
    while True:
        present = next(
            each
            for each in jobs_of(client, job.sweep_id)
            if each.submission_id == job.submission_id
        )
        if present.is_over or clock() >= end:
            return present
        sleep(POLL_S)


def stop(client: Any, job: SweepJob) -> SweepJob:
    """Ends the sweep: trials leave at their next step with a checkpoint. Returns the job when it is
    over; a driver that does not answer is stopped by Ray. Raises `JobError` when none runs."""
    _check_runs(job)
    # One that only starts hears nothing yet, and has nothing to keep.
    with suppress(JobError):
        control(client, job, "stop")
        # It has been asked, and needs as long as its trials' last steps and checkpoints do.
        ended = wait(client, job, timeout_s=STOP_TIMEOUT_S)
        if ended.is_over:
            return ended
    with answers("stop the job"):
        client.stop_job(job.submission_id)
    return wait(client, job, timeout_s=STOP_TIMEOUT_S)


def stop_trial(client: Any, job: SweepJob, trial: int) -> None:
    """Cancels one running trial; the sweep goes on."""
    control(client, job, "stop-trial", str(trial))


def _check_runs(job: SweepJob) -> None:
    if job.is_over:
        raise JobError(
            f"sweep {job.sweep_id}: its driver must run for this, but job {job.submission_id} is "
            f"{job.state}. Start it again: kd-sweep resume {job.sweep_id}."
        )


def control(client: Any, job: SweepJob, *words: str) -> None:
    """Sends the sweep's driver a command: a small job on the cluster calls its board. Raises
    `JobError` when the driver is not there, or refuses."""
    _check_runs(job)
    # Drawn, unlike a driver's: the same command may be sent again.
    submission_id = f"{job.submission_id}-{words[0]}-{uuid.uuid4().hex[:6]}"
    # The cluster has the driver's code: nothing is shipped, and both are of one version.
    with answers("tell of its job"):
        code = client.get_job_info(job.submission_id).runtime_env["working_dir"]
    request = {
        "entrypoint": shlex.join(["python", "-m", "service", "control", job.sweep_id, *words]),
        "metadata": {SWEEP: job.sweep_id},
        "runtime_env": {"working_dir": code},
    }
    _submit(client, submission_id, request)
    end = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < end:
        with answers("tell of its job"):
            info = client.get_job_info(submission_id)
        state = state_of(info)
        if state is TrialState.COMPLETED:
            return
        if state.is_terminal:
            raise JobError(reason_of(info.message or ""))
        time.sleep(POLL_S)


def read_order(path: Path) -> JobOrder:
    """Returns the order in `path`. Raises `JobError` when the submitter has another Python than
    this process: its pickles and its plan may mean something else here."""
    order = _order_in(path.read_bytes(), str(path))
    here = ".".join(platform.python_version_tuple()[:2])
    if order.python != here:
        raise JobError(
            "cluster: Python must be the same version for client and cluster, but got "
            f"{order.python} there and {here} here. Use an image with Python {order.python}."
        )
    return order


def _order_in(content: bytes | str, place: str) -> JobOrder:
    try:
        return JobOrder.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise JobError(
            f"{place}: must be one of this version, but got: {field}: {first['msg']}. Submit the "
            "sweep again, or use the version that submitted it."
        ) from error
