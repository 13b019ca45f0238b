"""Steps read ahead: the same as read now, errors and ends included."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from trainers.tasks.causal_lm.data import TokenSplit
from trainers.training.feed import Feed, Step, StepsAhead
from trainers.trial.sources import Prepared
from trainers.world import World


def feed(prepared: Prepared, rank: int = 0, size: int = 1) -> Feed:
    split = TokenSplit.open(Path(prepared.data), "train")
    return Feed(
        split=split,
        order=split.order(batch_size=8, seed=0),
        world=World(rank=rank, size=size),
        parts=2,
        teacher=None,
    )


def test_two_workers_read_every_example_exactly_once_a_pass(prepared: Prepared) -> None:
    read: list[int] = []
    for rank in range(2):
        worker = feed(prepared, rank, 2)
        for number in range(worker.order.steps_per_epoch):
            for batch in worker.step(number).batches:
                read += batch.examples.tolist()
    assert sorted(read) == list(range(60))


def test_reading_ahead_changes_nothing(prepared: Prepared) -> None:
    now = feed(prepared)
    with feed(prepared).steps(3, 12) as steps:
        for number in range(3, 12):
            got, expected = next(steps), now.step(number)
            assert got.number == number and got.num_positions == expected.num_positions
            for ours, theirs in zip(got.batches, expected.batches, strict=True):
                assert np.array_equal(ours.examples, theirs.examples)
                assert ours.input_ids.equal(theirs.input_ids)
        assert next(steps, None) is None


def step(number: int) -> Step:
    return Step(number, [], 1)


def test_what_goes_wrong_is_raised_where_the_step_is_wanted() -> None:
    def read(number: int) -> Step:
        if number == 2:
            raise OSError("disk gone")
        return step(number)

    with StepsAhead(read, 0, 5) as steps:
        assert [next(steps).number for _ in range(2)] == [0, 1]
        with pytest.raises(OSError, match="disk gone"):
            next(steps)


def test_the_thread_ends_with_the_block_and_reads_only_a_little_ahead() -> None:
    read: list[int] = []

    def noted(number: int) -> Step:
        read.append(number)
        return step(number)

    with StepsAhead(noted, 0, 1000) as steps:
        next(steps)
        time.sleep(0.2)
    # one taken, two waiting, one in hand, one begun when the block ended
    assert len(read) <= 5
    assert not [thread for thread in threading.enumerate() if thread.name == "feed"]
