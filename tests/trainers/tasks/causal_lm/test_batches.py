"""Which examples make a step, who gets which, and what a micro-batch looks like."""

from pathlib import Path

import numpy as np
import pytest

from trainers.tasks.causal_lm.batches import BucketedOrder, groups_by_length
from trainers.tasks.causal_lm.data import TokenSplit
from trainers.training.feed import share
from trainers.trial.sources import Prepared

LENGTHS = np.random.Generator(np.random.PCG64(0)).integers(10, 200, 1003)


def epoch(order: BucketedOrder, number: int) -> list[list[int]]:
    start = number * order.steps_per_epoch
    return [order.examples(start + i).tolist() for i in range(order.steps_per_epoch)]


def test_an_epoch_holds_every_example_once() -> None:
    batches = epoch(BucketedOrder(LENGTHS, batch_size=32, seed=0), 0)
    assert sorted(i for batch in batches for i in batch) == list(range(1003))
    assert {len(batch) for batch in batches} == {32, 1003 % 32}


def test_the_order_hangs_on_seed_and_epoch_alone() -> None:
    order = BucketedOrder(LENGTHS, batch_size=32, seed=0)
    first, second = epoch(order, 0), epoch(order, 1)
    assert first != second
    # asked in another sequence, by another object
    other = BucketedOrder(LENGTHS, batch_size=32, seed=0)
    assert epoch(other, 1) == second and epoch(other, 0) == first
    assert epoch(BucketedOrder(LENGTHS, batch_size=32, seed=1), 0) != first


def test_batches_hold_little_padding() -> None:
    batches = epoch(BucketedOrder(LENGTHS, batch_size=32, seed=0), 0)
    padded = sum(len(batch) * LENGTHS[batch].max() for batch in batches)
    assert padded < 1.1 * LENGTHS.sum()
    # in plain random order about four tenths would be padding
    random = np.random.Generator(np.random.PCG64(1)).permutation(1003)
    plain = sum(len(p) * LENGTHS[p].max() for p in np.array_split(random, 32))
    assert plain > 1.5 * LENGTHS.sum()


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_each_example_of_a_step_is_read_by_exactly_one_worker(world_size: int, parts: int) -> None:
    examples = BucketedOrder(LENGTHS, batch_size=13, seed=0).examples(0)
    shares = [
        part.tolist()
        for rank in range(world_size)
        for part in share(examples, rank=rank, world_size=world_size, parts=parts)
    ]
    assert len(shares) == world_size * parts
    assert sorted(i for part in shares for i in part) == sorted(examples.tolist())


def test_labels_are_the_next_tokens_of_responses(prepared: Prepared) -> None:
    split = TokenSplit.open(Path(prepared.data), "train")
    batch = split.collate(np.array([3, 7]))
    flat = batch.input_ids.flatten()
    start = 0
    for row, example in enumerate((3, 7)):
        ids, prompt = split.tokens(example), int(split.num_prompt_tokens[example])
        count = len(ids) - prompt
        part = slice(start, start + count)
        assert batch.labels[part].tolist() == ids[prompt:].tolist()
        assert flat[batch.positions[part]].tolist() == ids[prompt - 1 : -1].tolist()
        assert batch.sequence_ids[part].tolist() == [row] * count
        start += count
    assert start == len(batch.labels) == split.num_learned[[3, 7]].sum()


def test_a_share_without_examples_is_a_row_of_padding_with_nothing_to_learn(
    prepared: Prepared,
) -> None:
    split = TokenSplit.open(Path(prepared.data), "train", pad_token_id=5)
    batch = split.collate(np.array([], dtype=np.int64))
    assert batch.input_ids.tolist() == [[5]]
    assert batch.labels.numel() == batch.positions.numel() == len(batch.examples) == 0


def test_validation_is_read_whole_within_the_token_bound(prepared: Prepared) -> None:
    split = TokenSplit.open(Path(prepared.data), "validation")
    batches = groups_by_length(np.arange(len(split)), split.num_tokens, max_tokens=100)
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(split)))
    assert all(
        len(batch) == 1 or len(batch) * split.num_tokens[batch].max() <= 100 for batch in batches
    )
