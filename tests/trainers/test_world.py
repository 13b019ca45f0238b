"""Workers of one trial after another meet and part."""

import multiprocessing
import weakref
from pathlib import Path

import torch
from torch import distributed as dist

from trainers.world import World, leave

MEETINGS = 3


def meet(rank: int, folder: Path) -> None:
    """Forms a group for each of many trials, as a slot does, and trains one step in each."""
    torch.set_num_threads(1)
    for meeting in range(MEETINGS):
        store = dist.FileStore(str(folder / str(meeting)), 2)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
        world = World(rank=rank, size=2, group=dist.group.WORLD)
        assert world.group is not None
        module = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 8))
        module(torch.ones(2, 8)).sum().backward()
        assert world.gathered(rank) == [0, 1]
        assert world.number(5 if rank == 0 else 1) == 5, "rank 0 has the word"
        assert world.flag(rank == 1) is False
        group = weakref.ref(world.group)
        del module
        leave(world.group)
        del world
        assert group() is None, "its threads live on"


def test_two_workers_part_after_each_trial_and_meet_for_the_next(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=meet, args=(rank, tmp_path)) for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
    ended = [rank.exitcode for rank in ranks]
    for rank in ranks:
        rank.kill()
    assert ended == [0, 0]
