"""What a slot's worker does around one trial: its reporter, its files, its vote. No Ray."""

import gc
import json
import logging
import math
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from trainers.files.store import write_text
from trainers.training.standing import TrialFunction
from trainers.trial.assignments import Assignment, Ending, LeaveTrial, Report, Said, Vote
from trainers.trial.fields import LanguageDataFields
from trainers.trial.reporting import DIAGNOSTICS, EXAMPLES, SAMPLES, Leave, Outcome, TrialResult
from trainers.trial.trial_file import TrialFile

log = logging.getLogger(__name__)
CLOSE_TIMEOUT_S = 60.0
SHOW_EVERY_S = 1.0
RESULT, STUDENT_FOLDER = "result.json", "student"
# What a trial leaves in its folder beside its student, and its run gets as artifacts.
ARTIFACTS = (SAMPLES, EXAMPLES, DIAGNOSTICS, RESULT)


class Sink(Protocol):
    """Where a trial's metrics and files go; nothing in it blocks or raises into training."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes metrics of a step."""

    def upload(self, path: Path, artifact_path: str | None) -> None:
        """Takes a file or folder, to be stored under `artifact_path`."""

    def keep_student(self, folder: Path) -> None:
        """Takes the student's Hugging Face folder, which is removed once it is recorded."""

    def close(self, timeout_s: float) -> bool:
        """Waits until all is sent, `timeout_s` at most; returns whether it is."""
        ...


@dataclass(frozen=True)
class SlotConfig:
    """What a slot's workers are started with. `trainer` is called once in each worker process;
    `folder` is their working directory; `max_trials` 1 makes a slot for a single trial."""

    slot: str
    board: Any
    folder: str
    trainer: Callable[[], TrialFunction]
    sinks: Callable[[str], Sink] | None = None
    max_trials: int | None = None
    collective_timeout_s: float = 600.0


@dataclass
class Worker:
    """One rank of a group, between its start and its end. `get` turns the board's answers into
    values; `closers` are threads that still send what earlier trials left. `to_leave` is written by
    the watch thread and read by the training one: a single reference, so neither sees half of
    it."""

    config: SlotConfig
    train: TrialFunction
    get: Callable[[Any], Any]
    rank: int
    local_rank: int
    num_ranks: int
    epoch: int = -1
    to_leave: LeaveTrial | None = None
    closers: list[threading.Thread] = field(default_factory=list)


class SlotReporter:
    """Rank 0's reporter: metrics go to the sink, evaluations to the board; the watch thread knows
    when to leave."""

    def __init__(self, worker: Worker, assignment: Assignment, sink: Sink | None) -> None:
        self._worker = worker
        self._assignment = assignment
        self._sink = sink
        self._unread: Any = None
        self._shown_at = -math.inf

    def advanced(self, step: int, num_steps: int) -> None:
        """Tells the board how far the trial is, once a second at most; nothing waits for it."""
        now = time.monotonic()
        if now - self._shown_at >= SHOW_EVERY_S:
            self._shown_at = now
            lease = self._assignment.lease
            self._worker.config.board.note_step.remote(lease, step, num_steps)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Passes training metrics of `step` to the sink."""
        if self._sink is not None:
            self._sink.log(step, metrics)

    def evaluated(self, step: int, evaluation: int, metrics: Mapping[str, float]) -> None:
        """Passes validation metrics on; waits while the evaluation before is not dealt with."""
        self.log(step, metrics)
        # One evaluation under way, no more: early stopping never judges a trial two behind, and yet
        # training does not wait for its verdict.
        if self._unread is not None:
            self._worker.get(self._unread)
        report = Report(evaluation, step, dict(metrics))
        self._unread = self._worker.config.board.report.remote(self._assignment.lease, report)

    def notice(self, text: str) -> None:
        """Passes the text on to the driver, which shows it."""
        self._worker.config.board.say.remote(self._assignment.lease, Said(text))

    def reason_to_leave(self) -> Leave:
        """Returns the board's reason, if the lease to leave is this trial's, not an older one's."""
        leave = self._worker.to_leave
        if leave is None or leave.lease != self._assignment.lease:
            return Leave.NO
        return leave.reason


def run_assignment(worker: Worker, assignment: Assignment) -> Vote:
    """Returns how the trial ended on this rank; whatever it raises is its own failure."""
    sink = None
    if worker.rank == 0 and worker.config.sinks is not None and assignment.run_id is not None:
        sink = worker.config.sinks(assignment.run_id)
    group = _process_group(worker)
    try:
        vote = _vote(_train(worker, assignment, sink, group))
    except Exception as error:
        vote = _vote_of_error(assignment, error)
        # The traceback's frames keep the model, and its DDP wrapper keeps the group's sockets.
        # Where one rank alone raised, the others wait in a collective and learn of this only when
        # these sockets close: with gloo, `abort` and `destroy_process_group` alone do nothing. So
        # every reference goes before the vote, or the others wait out the collective's timeout.
        traceback.clear_frames(error.__traceback__)
    if group is not None:
        from trainers.world import leave

        leave(group)
        group = None
    elif vote.ending is not Ending.DONE:
        # Cycles keep the failed trial's model, and the next one needs its memory.
        gc.collect()
    _send_artifacts(worker, assignment, sink, vote)
    return vote


def _vote(result: TrialResult) -> Vote:
    """Returns the vote for a trial that raised nothing."""
    if result.outcome is Outcome.PREEMPTED:
        return Vote(Ending.PREEMPTED, error="its node is about to go, a checkpoint is written")
    return Vote(Ending.DONE, result)


def _train(worker: Worker, assignment: Assignment, sink: Sink | None, group: Any) -> TrialResult:
    trial = TrialFile.model_validate_json(assignment.trial_json)
    output = Path(assignment.output)
    output.mkdir(parents=True, exist_ok=True)
    before = _result_of_earlier_attempt(trial, output) if trial.attempt > 0 else None
    if before is not None:
        if sink is not None:
            sink.log(before.steps, before.metrics)
        return before
    result = worker.train(
        trial,
        output,
        reporter=SlotReporter(worker, assignment, sink),
        rank=worker.rank,
        local_rank=worker.local_rank,
        process_group=group,
    )
    if worker.rank == 0:
        # Before the vote: a driver that dies before it has recorded the end leaves it here.
        _write_result(result, output)
    return result


def _result_of_earlier_attempt(trial: TrialFile, output: Path) -> TrialResult | None:
    """Returns the result of an attempt that ended after its driver had died, so that nobody
    recorded it; None when there is none, it is damaged, or the attempt left on the way: then the
    trial goes on from its checkpoint."""
    path = output / RESULT
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_text())
        fields["outcome"] = Outcome(fields["outcome"])
        fields["student"] = Path(fields["student"]) if fields["student"] else None
        result = TrialResult(**fields)
    except (ValueError, TypeError, KeyError) as error:
        log.warning("trial %d: %s is damaged (%s) and left aside", trial.trial, path, error)
        return None
    return result if result.outcome in (Outcome.COMPLETED, Outcome.DIVERGED) else None


def _write_result(result: TrialResult, output: Path) -> None:
    write_text(output / RESULT, json.dumps(asdict(result), indent=2, default=str) + "\n")


def _process_group(worker: Worker) -> Any:
    """Returns a group for this trial alone: destroying it frees ranks that wait for each other, and
    the next trial starts with one that no error has touched."""
    if worker.num_ranks == 1:
        return None
    import torch.distributed as dist

    return dist.new_group(timeout=timedelta(seconds=worker.config.collective_timeout_s))


def _vote_of_error(assignment: Assignment, error: Exception) -> Vote:
    """Returns the vote for an exception, with its last lines and, for memory, what to lower."""
    import torch

    text = "".join(traceback.format_exception(error)[-6:]).strip()
    if not isinstance(error, torch.OutOfMemoryError | MemoryError):
        return Vote(Ending.ERROR, error=text)
    config = json.loads(assignment.trial_json)["config"]
    lengths = [name for name in LanguageDataFields.model_fields if name in config]
    sizes = [f"{name}={config[name]}" for name in ("batch_size", "gradient_accumulation", *lengths)]
    return Vote(
        Ending.OUT_OF_MEMORY,
        error=f"out of memory in trial {assignment.trial} with {', '.join(sizes)}. Raise "
        f"gradient_accumulation, or lower {' or '.join(['batch_size', *lengths])}. {text}",
    )


def _send_artifacts(worker: Worker, assignment: Assignment, sink: Sink | None, vote: Vote) -> None:
    """Sends what the trial left, in a thread beside the next trial. One that another attempt goes
    on with sends nothing: its files are not final."""
    if sink is None:
        return

    def send() -> None:
        if vote.result is not None and not vote.result.outcome.is_resumable:
            output = Path(assignment.output)
            for name in ARTIFACTS:
                if (output / name).exists():
                    sink.upload(output / name, None)
            # Last: it is large, and an earlier attempt may have sent it.
            if (output / STUDENT_FOLDER).exists():
                sink.keep_student(output / STUDENT_FOLDER)
        sink.close(CLOSE_TIMEOUT_S)

    worker.closers = [thread for thread in worker.closers if thread.is_alive()]
    thread = threading.Thread(target=send)
    thread.start()
    worker.closers.append(thread)
