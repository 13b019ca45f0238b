"""What a slot's Ray Train workers run: they stay up and train one trial after another.

The only file of this folder that knows Ray. Every rank asks the board itself for its next job, so
that no collective waits while the slot is idle; a trial has its own process group, destroyed at its
end; and every rank votes on how the trial ended before the slot takes the next one.
"""

import functools
import gc
import json
import logging
import os
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from trainers.files.store import write_text
from trainers.trial.assignments import Ending, Job, Order, Report, Said, StopOrder, Vote
from trainers.trial.reporting import Leave, Outcome, Reporter, TrialResult
from trainers.trial.trial_file import TrialFile

log = logging.getLogger(__name__)
CLOSE_TIMEOUT_S = 60.0
RESULT = "result.json"
# What a trial leaves in its folder, and where it goes among its run's artifacts (None: the top).
ARTIFACTS = {"student": "student", "samples.json": None, RESULT: None}
BOARD_LOST, TOLD_TO_DIE = 3, 4


class SlotBroken(RuntimeError):
    """The slot's processes cannot take another trial: Ray Train has to start the group anew."""


class Sink(Protocol):
    """Where a trial's metrics and files go; nothing in it blocks or raises into training."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes metrics of a step."""

    def upload(self, path: Path, artifact_path: str | None) -> None:
        """Takes a file or folder, to lie under `artifact_path`."""

    def close(self, timeout_s: float) -> bool:
        """Waits until all is sent, `timeout_s` at most; returns whether it is."""
        ...


class Trains(Protocol):
    """`trainers.training.run.run_trial` with all that a slot keeps between trials, or what a test
    puts there."""

    def __call__(
        self,
        trial: TrialFile,
        output: Path,
        *,
        reporter: Reporter,
        rank: int,
        local_rank: int,
        process_group: Any,
    ) -> TrialResult:
        """Returns how the trial ended; raises what went wrong."""


@dataclass(frozen=True)
class SlotConfig:
    """What a slot's workers are started with. `trainer` is called once in each worker process;
    `folder` is where they stand; `max_jobs` 1 is a slot for a single trial."""

    slot: str
    board: Any
    folder: str
    trainer: Callable[[], Trains]
    sinks: Callable[[str], Sink] | None = None
    max_jobs: int | None = None
    collective_timeout_s: float = 600.0


@dataclass
class _Worker:
    """One rank of a group, between its start and its end."""

    config: SlotConfig
    train: Trains
    rank: int
    local_rank: int
    num_ranks: int
    epoch: int = -1
    stop: StopOrder | None = None
    closers: list[threading.Thread] = field(default_factory=list)


class SlotReporter:
    """Rank 0's reporter: metrics to the sink, evaluations to the board, stop orders from the watch
    thread.

    At most one evaluation is under way to the trial, so that early stopping is never two behind.
    """

    def __init__(self, worker: _Worker, job: Job, sink: Sink | None) -> None:
        self._worker = worker
        self._job = job
        self._sink = sink
        self._unread: Any = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Passes training metrics of `step` to the sink."""
        if self._sink is not None:
            self._sink.log(step, metrics)

    def evaluated(self, step: int, evaluation: int, metrics: Mapping[str, float]) -> None:
        """Passes validation metrics on; waits when the evaluation before was not dealt with yet."""
        import ray

        self.log(step, metrics)
        if self._unread is not None:
            ray.get(self._unread)
        report = Report(evaluation, step, dict(metrics))
        self._unread = self._worker.config.board.report.remote(self._job.lease, report)

    def notice(self, text: str) -> None:
        """Passes the text on to the driver, which shows it."""
        self._worker.config.board.say.remote(self._job.lease, Said(text))

    def reason_to_leave(self) -> Leave:
        """Returns the board's reason, if the order that came last is for this trial's lease."""
        order = self._worker.stop
        if order is None or order.lease != self._job.lease:
            return Leave.NO
        return order.reason


def standing_trainer(
    checkpoint_every_s: float | None = None, checkpoints: str | None = None
) -> Trains:
    """Returns `run_trial` for one process: data, teacher and the students' start stay loaded.
    `checkpoints`: see `run_trial`."""
    from trainers.training.run import KeptBetweenTrials, run_trial

    return functools.partial(
        run_trial,
        kept=KeptBetweenTrials(),
        checkpoint_every_s=checkpoint_every_s,
        checkpoints=checkpoints,
    )


def work(config: dict[str, Any]) -> None:
    """The train function of a slot: `config["slot"]` is a `SlotConfig`. Returns when the board says
    quit.

    Raises `SlotBroken` when the group has to be replaced.
    """
    worker = _start(config["slot"])
    if worker is None:
        return
    index = 0
    try:
        while index != worker.config.max_jobs:
            job = _next_job(worker, index)
            if job is None:
                break
            _run_and_vote(worker, job, index)
            index += 1
            if index == 1:
                # What the imports left is never garbage; walking it costs 0.3 s in every trial.
                gc.collect()
                gc.freeze()
    finally:
        for thread in worker.closers:
            thread.join(CLOSE_TIMEOUT_S)


def _start(config: SlotConfig) -> _Worker | None:
    """Returns this rank with its group's epoch and its watch thread, None when the slot is to
    quit."""
    import ray
    import ray.train

    os.chdir(config.folder)  # Ray's own folder for a worker may be replaced while it runs
    context = ray.train.get_context()
    worker = _Worker(
        config=config,
        train=config.trainer(),
        rank=context.get_world_rank(),
        local_rank=context.get_local_rank(),
        num_ranks=context.get_world_size(),
    )
    epoch = -1
    if worker.rank == 0:
        epoch = ray.get(config.board.enter.remote(config.slot, worker.num_ranks))
    if worker.num_ranks > 1:
        import torch.distributed as dist

        box = [epoch]
        dist.broadcast_object_list(box, src=0)
        epoch = box[0]
    worker.epoch = epoch
    if epoch < 0:
        return None
    node = ray.get_runtime_context().get_node_id()
    ray.get(config.board.here.remote(config.slot, node))
    threading.Thread(target=_watch, args=(worker,), daemon=True).start()
    return worker


def _watch(worker: _Worker) -> None:
    """Obeys the board beside training: notes the lease to stop, ends the process on DIE."""
    import ray

    told: str | None = None
    while True:
        try:
            order = ray.get(
                worker.config.board.orders.remote(worker.config.slot, worker.epoch, told)
            )
        except Exception:  # whatever it is: without the board nobody can end this process cleanly
            log.exception("the board is gone, slot %s ends", worker.config.slot)
            os._exit(BOARD_LOST)
        if order is Order.DIE:
            os._exit(TOLD_TO_DIE)
        if isinstance(order, StopOrder):
            told, worker.stop = order.lease, order


def _next_job(worker: _Worker, index: int) -> Job | None:
    """Returns job number `index`, None to quit. Raises `SlotBroken` when the group is given up."""
    import ray

    config = worker.config
    while True:
        answer = ray.get(
            config.board.next_job.remote(config.slot, worker.epoch, index, worker.rank)
        )
        if isinstance(answer, Job):
            return answer
        if answer is Order.DIE:
            raise SlotBroken("the board gave this group of workers up")
        if answer is Order.QUIT:
            return None


def _run_and_vote(worker: _Worker, job: Job, index: int) -> None:
    import ray

    vote = _run(worker, job)
    config = worker.config
    whole = ray.get(config.board.vote.remote(config.slot, worker.epoch, index, worker.rank, vote))
    if not whole:
        raise SlotBroken(f"not every worker of slot {config.slot} finished trial {job.trial}")
    if vote.ending is Ending.OUT_OF_MEMORY:
        raise SlotBroken(f"trial {job.trial} ran out of memory")


def _run(worker: _Worker, job: Job) -> Vote:
    """Returns how the trial ended on this rank; whatever it raises is its own failure."""
    sink = None
    if worker.rank == 0 and worker.config.sinks is not None and job.run_id is not None:
        sink = worker.config.sinks(job.run_id)
    group = _process_group(worker)
    try:
        vote = _vote(_train(worker, job, sink, group))
    except Exception as error:
        vote = _failed(job, error)
        # The frames keep the model, and the model keeps the sockets of the group: a peer in a
        # collective learns of this only when they close.
        traceback.clear_frames(error.__traceback__)
    if group is not None:
        from trainers.world import leave

        leave(group)
        group = None
    elif vote.ending is not Ending.DONE:
        gc.collect()
    _close(worker, job, sink, vote)
    return vote


def _vote(result: TrialResult) -> Vote:
    """Returns the vote for a trial that raised nothing."""
    if result.outcome is Outcome.PREEMPTED:
        return Vote(Ending.PREEMPTED, error="its node is about to go, a checkpoint is written")
    return Vote(Ending.DONE, result)


def _train(worker: _Worker, job: Job, sink: Sink | None, group: Any) -> TrialResult:
    trial = TrialFile.model_validate_json(job.trial_json)
    output = Path(job.output)
    output.mkdir(parents=True, exist_ok=True)
    before = _result_of_earlier_attempt(trial, output) if trial.attempt > 0 else None
    if before is not None:
        if sink is not None:
            sink.log(before.steps, before.metrics)
        return before
    result = worker.train(
        trial,
        output,
        reporter=SlotReporter(worker, job, sink),
        rank=worker.rank,
        local_rank=worker.local_rank,
        process_group=group,
    )
    if worker.rank == 0:
        _write_result(result, output)
    return result


def _result_of_earlier_attempt(trial: TrialFile, output: Path) -> TrialResult | None:
    """Returns the result that an attempt before this one left when its driver died before it heard
    of it; None when there is none, it is damaged, or it was stopped on the way: then the trial goes
    on from its checkpoint."""
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


def _process_group(worker: _Worker) -> Any:
    if worker.num_ranks == 1:
        return None
    import torch.distributed as dist

    return dist.new_group(timeout=timedelta(seconds=worker.config.collective_timeout_s))


def _failed(job: Job, error: Exception) -> Vote:
    """Returns the vote for an exception, with its last lines and, for memory, what to lower."""
    import torch

    text = "".join(traceback.format_exception(error)[-6:]).strip()
    if not isinstance(error, torch.OutOfMemoryError | MemoryError):
        return Vote(Ending.ERROR, error=text)
    config = json.loads(job.trial_json)["config"]
    sizes = ", ".join(
        f"{name}={config[name]}" for name in ("batch_size", "gradient_accumulation", "max_tokens")
    )
    return Vote(
        Ending.OUT_OF_MEMORY,
        error=f"out of memory in trial {job.trial} with {sizes}. Raise gradient_accumulation, or "
        f"lower batch_size or max_tokens. {text}",
    )


def _close(worker: _Worker, job: Job, sink: Sink | None, vote: Vote) -> None:
    """Sends what the trial left, beside the next trial."""
    if sink is None:
        return

    def finish() -> None:
        if vote.result is not None and not vote.result.outcome.is_resumable:
            for name, folder in ARTIFACTS.items():
                if (Path(job.output) / name).exists():
                    sink.upload(Path(job.output) / name, folder)
        sink.close(CLOSE_TIMEOUT_S)

    worker.closers = [thread for thread in worker.closers if thread.is_alive()]
    thread = threading.Thread(target=finish)
    thread.start()
    worker.closers.append(thread)
