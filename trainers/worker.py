"""What a slot's Ray Train workers run: they stay up and train one trial after another.

The only file of this folder that knows Ray. Every rank asks the board itself for its next
assignment, so that no collective waits while the slot is idle; a trial has its own process group,
destroyed at its end; and every rank votes on how the trial ended before the slot takes the next
one.
"""

import gc
import logging
import os
import threading
from typing import Any

import ray
import ray.train

from trainers.training.slot_trial import CLOSE_TIMEOUT_S, SlotConfig, Worker, run_assignment
from trainers.trial.assignments import (
    Assignment,
    Ending,
    Instruction,
    LeaveTrial,
)

log = logging.getLogger(__name__)
# Exit codes of a worker that ends itself.
BOARD_LOST, GROUP_GIVEN_UP = 3, 4


class SlotBroken(RuntimeError):
    """The slot's processes cannot take another trial: Ray Train has to start the group anew."""


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
        while index != worker.config.max_trials:
            assignment = _next_assignment(worker, index)
            if assignment is None:
                break
            _run_and_vote(worker, assignment, index)
            index += 1
            if index == 1:
                # By now everything that a trial imports is imported. Those objects are never
                # garbage, and to walk them costs 0.3 s in each trial's collection: leave them out.
                gc.collect()
                gc.freeze()
    finally:
        # The last trial's files may still be on their way.
        for thread in worker.closers:
            thread.join(CLOSE_TIMEOUT_S)


def _start(config: SlotConfig) -> Worker | None:
    """Returns this rank with its group's epoch and its watch thread, None when the slot is to
    quit."""
    os.chdir(config.folder)  # Ray's own folder for a worker may be replaced while it runs
    context = ray.train.get_context()
    worker = Worker(
        config=config,
        train=config.trainer(),
        get=ray.get,
        rank=context.get_world_rank(),
        local_rank=context.get_local_rank(),
        num_ranks=context.get_world_size(),
    )
    # Rank 0 alone enters, so that the group has one number. This is the only use of Train's own
    # process group: a collective that waits while the slot is idle would run into its timeout.
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
    ray.get(config.board.note_node.remote(config.slot, node))
    threading.Thread(target=_watch, args=(worker,), daemon=True).start()
    return worker


def _watch(worker: Worker) -> None:
    """Follows the board beside training: notes the lease to leave, ends the process on DIE.

    A rank that hangs in a collective, or in C code that has released the interpreter's lock, cannot
    be talked to; this thread can still end it. `os._exit`, since an orderly exit would wait for the
    thread that hangs.
    """
    config = worker.config
    known: str | None = None
    while True:
        try:
            answer = ray.get(config.board.instructions.remote(config.slot, worker.epoch, known))
        except Exception:  # whatever it is: without the board nobody can end this process cleanly
            log.exception("the board is gone, slot %s ends", config.slot)
            os._exit(BOARD_LOST)
        if answer is Instruction.DIE:
            os._exit(GROUP_GIVEN_UP)
        if isinstance(answer, LeaveTrial):
            known, worker.to_leave = answer.lease, answer


def _next_assignment(worker: Worker, index: int) -> Assignment | None:
    """Returns assignment number `index`, None to quit. Raises `SlotBroken` when the group is given
    up."""
    config = worker.config
    while True:
        answer = ray.get(
            config.board.next_assignment.remote(config.slot, worker.epoch, index, worker.rank)
        )
        if isinstance(answer, Assignment):
            return answer
        if answer is Instruction.DIE:
            raise SlotBroken("the board gave this group of workers up")
        if answer is Instruction.QUIT:
            return None


def _run_and_vote(worker: Worker, assignment: Assignment, index: int) -> None:
    vote = run_assignment(worker, assignment)
    config, trial = worker.config, assignment.trial
    is_complete = ray.get(
        config.board.vote.remote(config.slot, worker.epoch, index, worker.rank, vote)
    )
    if not is_complete:
        raise SlotBroken(f"not every worker of slot {config.slot} finished trial {trial}")
    if vote.ending is Ending.OUT_OF_MEMORY:
        raise SlotBroken(f"trial {trial} ran out of memory")
