"""Steps on text that the student writes itself: when they come, what is in them, and what of them
is kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trainers.responses import Response, SampleKey
from trainers.sampled import Author, Sample
from trainers.tasks.causal_lm.batches import TokenBatch, collate_samples
from trainers.tasks.causal_lm.data import TokenData
from trainers.training.feed import Feed
from trainers.training.shares import Shares, throw
from trainers.training.written import WritingSource
from trainers.trial.config import TrialConfig
from trainers.trial.sources import Prepared
from trainers.trial.text_fields import MOST_SAMPLES
from trainers.world import World

SEED, STEPS = 3, 40


@dataclass
class FakeWriter:
    """Answers a prompt with two tokens that say when it was asked: in which call, and for which
    step. Keeps what it was asked in each call."""

    data: TokenData
    calls: list[list[SampleKey]] = field(default_factory=list)

    def write(self, asked: Sequence[SampleKey]) -> list[Sample]:
        self.calls.append(list(asked))
        return [
            Sample(
                example,
                Response([len(self.calls), number // MOST_SAMPLES], [-1.0, -2.0], False),
                Author.STUDENT,
            )
            for example, number in asked
        ]

    def collate(self, samples: Sequence[Sample]) -> TokenBatch:
        split = self.data.splits["train"]
        prompts = [split.prompt(sample.example) for sample in samples]
        return collate_samples("train", samples, prompts, pad_token_id=0)


@dataclass(frozen=True)
class OneOf(World):
    """A worker of two, and what the other one has to exchange."""

    other: tuple[Any, ...] = ()

    def gathered(self, value: Any) -> list[Any]:
        found = [value, *self.other]
        return found if self.rank == 0 else found[::-1]


@pytest.fixture(scope="module")
def data(prepared: Prepared) -> TokenData:
    return TokenData.open(Path(prepared.data))


def source(data: TokenData, world: World | None = None, **text: Any) -> WritingSource:
    order = data.splits["train"].order(batch_size=8, seed=SEED)
    feed = Feed(data.splits["train"], order, world or World(), parts=2, teacher=None)
    config = TrialConfig.model_validate({"batch_size": 8, "student_share": 0.5, **text})
    return WritingSource(feed, FakeWriter(data), Shares(config, SEED, STEPS))


def calls(made: WritingSource) -> list[list[SampleKey]]:
    assert isinstance(made.writer, FakeWriter)
    return made.writer.calls


def coin(step: int) -> float:
    return float(throw(SEED, step, 1)[0])


def seen(made: WritingSource, step: int) -> list[list[int]]:
    """Example, and the two tokens, of each sample in a step."""
    found = []
    for batch in made.step(step).batches:
        if batch.sampled is not None:
            labels = batch.labels.reshape(-1, 2).tolist()
            rows = zip(batch.examples.tolist(), labels, strict=True)
            found += [[example, *label] for example, label in rows]
    return found


def test_the_student_writes_in_the_steps_whose_coin_says_so(data: TokenData) -> None:
    made = source(data, student_share=0.4)
    with made.steps(0, STEPS) as steps:
        found = [step.batches[0].sampled is not None for step in steps]
    assert found == [coin(step) < 0.4 for step in range(STEPS)]
    assert any(found) and not all(found)


def test_steps_on_prepared_data_are_those_of_a_trial_without_own_text(data: TokenData) -> None:
    made = source(data)
    number = next(step for step in range(9) if coin(step) >= 0.5)
    step, expected = made.step(number), made.feed.step(number)
    assert step.num_positions == expected.num_positions
    for ours, theirs in zip(step.batches, expected.batches, strict=True):
        assert ours.labels.tolist() == theirs.labels.tolist() and ours.sampled is None
    assert calls(made) == []


def test_every_prompt_of_the_step_is_answered_and_every_token_counts(data: TokenData) -> None:
    made = source(data, student_share=1, samples_per_prompt=3)
    step = made.step(2)
    prompts = made.feed.order.examples(2).tolist()
    numbers = [2 * MOST_SAMPLES + n for n in range(3)]
    assert calls(made) == [[(prompt, number) for prompt in prompts for number in numbers]]
    assert step.num_positions == 2 * 3 * 8
    examples = [int(example) for batch in step.batches for example in batch.examples]
    assert sorted(examples) == sorted(3 * prompts)


def test_in_pairs_the_students_text_stands_beside_the_datas(data: TokenData) -> None:
    made = source(data, student_share=0.5, share_of="pairs")
    step, prompts = made.step(2), made.feed.order.examples(2)
    answered = prompts[throw(SEED, 2, len(prompts)) < 0.5].tolist()
    assert 0 < len(answered) < len(prompts)
    found: dict[bool, list[int]] = {False: [], True: []}
    for batch in step.batches:
        found[batch.sampled is not None] += batch.examples.tolist()
    assert sorted(found[False]) == sorted(prompts.tolist())
    assert sorted(found[True]) == sorted(answered)
    own = 2 * len(answered)
    assert step.num_positions == own + int(data.splits["train"].num_learned[prompts].sum())


def test_a_coin_for_each_sequence_mixes_a_step(data: TokenData) -> None:
    made = source(data, share_of="sequences")
    step = made.step(0)
    own = throw(SEED, 0, 8) < 0.5
    examples = made.feed.order.examples(0)
    assert 0 < own.sum() < 8
    kinds = [batch.sampled is not None for batch in step.batches]
    assert kinds == [False, False, True, True]
    assert sorted(int(one) for one, _ in calls(made)[0]) == sorted(examples[own].tolist())
    prepared = [int(one) for batch in step.batches[:2] for one in batch.examples]
    assert sorted(prepared) == sorted(examples[~own].tolist())
    learned = data.splits["train"].num_positions(examples[~own])
    assert step.num_positions == learned + 2 * own.sum()
    assert sum(len(batch.labels) for batch in step.batches) == step.num_positions


def test_workers_write_their_part_and_count_the_whole_step(data: TokenData) -> None:
    alone = source(data, student_share=1)
    step, asked = alone.step(1), calls(alone)[0]
    parts = [FakeWriter(data).write(asked[rank::2]) for rank in range(2)]
    examples: list[int] = []
    for rank in range(2):
        world = OneOf(rank=rank, size=2, other=(parts[1 - rank],))
        made = source(data, world, student_share=1)
        its = made.step(1)
        assert calls(made) == [asked[rank::2]]
        assert its.num_positions == step.num_positions
        examples += [int(example) for batch in its.batches for example in batch.examples]
    assert sorted(examples) == sorted(example for example, _ in asked)


def test_text_is_written_ahead_until_the_next_refresh(data: TokenData) -> None:
    made = source(data, student_share=1, refresh=3)
    found = [seen(made, step) for step in range(1, 5)]
    assert [{number // MOST_SAMPLES for _, number in call} for call in calls(made)] == [
        {1, 2},
        {3, 4, 5},
    ]
    assert [{tuple(label) for _, *label in step} for step in found] == [
        {(1, 1)},
        {(1, 2)},
        {(2, 3)},
        {(2, 4)},
    ]


def test_nothing_is_written_for_steps_behind_the_last(data: TokenData) -> None:
    made = source(data, student_share=1, refresh=100)
    made.step(STEPS - 2)
    assert {number // MOST_SAMPLES for _, number in calls(made)[0]} == {STEPS - 2, STEPS - 1}


def test_a_full_buffer_is_replayed_without_a_sample_twice(data: TokenData) -> None:
    made = source(data, student_share=1, buffer_size=20, fresh_schedule="constant")
    replayed = 0
    for number in range(12):
        num_calls, is_full = len(calls(made)), number >= 3
        rows = seen(made, number)
        is_replay = is_full and coin(number) >= 0.5
        assert (len(calls(made)) == num_calls) == is_replay
        if is_replay:
            replayed += 1
            assert len({tuple(row) for row in rows}) == len(rows) == 8
            assert all(step < number for _, _, step in rows)
    assert replayed >= 2


def test_the_oldest_samples_leave_the_buffer(data: TokenData) -> None:
    made = source(data, student_share=1, buffer_size=20)
    for number in range(3):
        made.step(number)
    kept = made.state_dict()["kept"]
    steps = kept["ids"].reshape(-1, 2)[:, 1].tolist()
    assert steps == 4 * [0] + 8 * [1] + 8 * [2]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_source_goes_on_from_its_state(data: TokenData, cut: int) -> None:
    text = {"student_share": 0.8, "refresh": 3, "buffer_size": 16, "share_of": "sequences"}
    whole = source(data, **text)
    expected = [seen(whole, number) for number in range(12)]
    first = source(data, **text)
    for number in range(cut):
        seen(first, number)
    second = source(data, **text)
    second.load_state_dict(first.state_dict())
    assert isinstance(second.writer, FakeWriter)
    second.writer.calls += calls(first)
    assert [seen(second, number) for number in range(cut, 12)] == expected[cut:]


def test_the_adaptive_share_looks_at_the_validation_loss_and_is_part_of_the_state(
    data: TokenData,
) -> None:
    made = source(data, share_schedule="adaptive")
    assert made.needs_first_evaluation and not source(data).needs_first_evaluation
    made.evaluated({"cross_entropy": 2.0})
    made.evaluated({"cross_entropy": 2.5})
    other = source(data, share_schedule="adaptive")
    other.load_state_dict(made.state_dict())
    for one in (made, other):
        assert one.shares.student(0) == pytest.approx(0.1)
        one.evaluated({"cross_entropy": 2.59})
        assert one.shares.student(0) == pytest.approx(0.1)
