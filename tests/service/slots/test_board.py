"""The board alone, on one event loop: who gets which assignment, who learns what, who waits for
whom."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from service.slots import board_slots
from service.slots.board import Board
from trainers.trial.assignments import (
    Assignment,
    Ending,
    Instruction,
    LeaveTrial,
    Report,
    Said,
    Vote,
)
from trainers.trial.reporting import Leave, Outcome, TrialResult


def make_assignment(trial: int = 0, attempt: int = 0) -> Assignment:
    return Assignment(lease=f"{trial}-{attempt}", trial=trial, trial_json="{}", output="/nowhere")


def done(value: float) -> Vote:
    result = TrialResult(Outcome.COMPLETED, {"rouge_l": value}, 1, 0.0, None, None)
    return Vote(Ending.DONE, result)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 10))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@pytest.fixture(autouse=True)
def short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_slots, "LONG_POLL_S", 0.05)


async def run_assignment(
    board: Board, slot: str, vote: Vote, *, index: int = 0, epoch: int = 1
) -> Any:
    assignment = await board.next_assignment(slot, epoch, index, 0)
    assert isinstance(assignment, Assignment)
    assert await board.vote(slot, epoch, index, 0, vote)
    return assignment


@on_a_loop
async def test_a_job_goes_to_a_slot_and_its_result_comes_back() -> None:
    board = Board()
    assert await board.enter("a", 1) == 1
    await board.submit(make_assignment())
    assert await run_assignment(board, "a", done(1.0)) == make_assignment()
    assert await board.news("0-0", 1) == [done(1.0)]
    assert await board.news("0-0", 1) == [Leave.ABANDONED], "a lease that is over is forgotten"


@on_a_loop
async def test_jobs_are_handed_out_in_order_and_once() -> None:
    board = Board()
    for slot in ("a", "b"):
        await board.enter(slot, 1)
    for trial in range(3):
        await board.submit(make_assignment(trial))
    assignments = await asyncio.gather(
        board.next_assignment("a", 1, 0, 0), board.next_assignment("b", 1, 0, 0)
    )
    assert [
        assignment.trial for assignment in assignments if isinstance(assignment, Assignment)
    ] == [0, 1]
    assert (await board.status()).num_queued == 1


@on_a_loop
async def test_ranks_get_what_rank_0_got_and_never_take_a_job_themselves() -> None:
    board = Board()
    await board.enter("a", 2)
    await board.submit(make_assignment())
    assert await board.next_assignment("a", 1, 0, 1) is Instruction.WAIT
    waiting = asyncio.create_task(board.next_assignment("a", 1, 0, 1))
    first = await board.next_assignment("a", 1, 0, 0)
    assert await waiting == first == make_assignment()


@on_a_loop
async def test_a_group_that_died_while_it_waited_gets_no_job() -> None:
    board = Board()
    await board.enter("a", 1)
    waiting = asyncio.create_task(board.next_assignment("a", 1, 0, 0))
    await asyncio.sleep(0)
    await board.slot_lost("a", "killed")
    await board.submit(make_assignment())
    assert await waiting is Instruction.DIE
    assert await board.enter("a", 1) == 2
    assert await board.next_assignment("a", 2, 0, 0) == make_assignment()


@on_a_loop
async def test_a_job_of_a_dead_group_ends_as_lost_at_once() -> None:
    board = Board()
    await board.enter("a", 1)
    await board.submit(make_assignment())
    await board.next_assignment("a", 1, 0, 0)
    await board.slot_lost("a", "signal 9")
    assert await board.news("0-0", 1) == [Vote(Ending.LOST, error="signal 9")]
    assert not await board.vote("a", 1, 0, 0, done(1.0)), "a late vote of the dead group"


@on_a_loop
async def test_a_notice_is_passed_on_and_ends_nothing() -> None:
    board = Board()
    await board.enter("a", 1)
    await board.submit(make_assignment())
    await board.next_assignment("a", 1, 0, 0)
    await board.say("0-0", Said("the disk is full"))
    assert await board.news("0-0", 1) == [Said("the disk is full")]
    await board.vote("a", 1, 0, 0, done(1.0))
    await board.say("0-0", Said("too late"))
    assert await board.news("0-0", 1) == [done(1.0)]


@on_a_loop
async def test_a_report_waits_until_the_trial_comes_back() -> None:
    board = Board()
    await board.enter("a", 1)
    await board.submit(make_assignment())
    await board.next_assignment("a", 1, 0, 0)
    report = Report(1, 2, {"rouge_l": 3.0})
    sent = asyncio.create_task(board.report("0-0", report))
    assert await board.news("0-0", 1) == [report]
    await asyncio.sleep(0.01)
    assert not sent.done()
    await board.news("0-0", 0.01)
    await asyncio.wait_for(sent, 1)


@on_a_loop
async def test_a_released_lease_stops_its_workers_once() -> None:
    board = Board()
    await board.enter("a", 1)
    await board.submit(make_assignment())
    await board.next_assignment("a", 1, 0, 0)
    order = asyncio.create_task(board.instructions("a", 1, None))
    await board.release("0-0", Leave.VERDICT)
    assert await order == LeaveTrial("0-0", Leave.VERDICT)
    assert await board.instructions("a", 1, "0-0") is Instruction.WAIT
    await asyncio.wait_for(board.report("0-0", Report(2, 4, {})), 1)


@on_a_loop
async def test_stopping_tells_the_trials_and_the_slots_and_whoever_comes_later() -> None:
    board = Board()
    await board.enter("a", 1)
    await board.submit(make_assignment(0))
    await board.submit(make_assignment(1))
    await board.next_assignment("a", 1, 0, 0)
    assert not (await board.status()).is_stopped
    await board.stop()
    assert await board.news("0-0", 1) == [Leave.SWEEP_STOPPED]
    assert await board.news("1-0", 1) == [Leave.SWEEP_STOPPED]
    left = await board.instructions("a", 1, None)
    assert left == LeaveTrial("0-0", Leave.SWEEP_STOPPED), "also after the trial read its news"
    await board.submit(make_assignment(2))
    assert await board.news("2-0", 1) == [Leave.SWEEP_STOPPED]
    assert (await board.status()).is_stopped


@on_a_loop
async def test_the_first_reason_to_leave_is_the_one_that_counts() -> None:
    board = Board()
    await board.enter("a", 1)
    await board.note_node("a", "going")
    await board.submit(make_assignment())
    await board.next_assignment("a", 1, 0, 0)
    await board.cancel(0)
    await board.leave_nodes({"going"})
    await board.stop()
    assert await board.instructions("a", 1, None) == LeaveTrial("0-0", Leave.CANCELLED)


@on_a_loop
async def test_one_trial_can_be_cancelled_alone() -> None:
    board = Board()
    await board.submit(make_assignment(0))
    await board.submit(make_assignment(1))
    await board.cancel(0)
    assert await board.news("0-0", 1) == [Leave.CANCELLED]
    assert await board.news("1-0", 0.01) == []


@on_a_loop
async def test_a_new_lease_of_a_trial_ends_the_older_one() -> None:
    board = Board()
    await board.enter("a", 1)
    await board.submit(make_assignment(0, 0))
    await board.next_assignment("a", 1, 0, 0)
    await board.submit(make_assignment(0, 1))
    assert await board.instructions("a", 1, None) == LeaveTrial("0-0", Leave.ABANDONED)
    assert await board.news("0-0", 1) == [Leave.ABANDONED]


@on_a_loop
async def test_a_lease_whose_trial_never_asks_again_is_ended() -> None:
    clock = Clock()
    board = Board(lease_ttl_s=30, clock=clock)
    await board.enter("a", 1)
    await board.submit(make_assignment())
    await board.next_assignment("a", 1, 0, 0)
    clock.now = 29
    assert await board.instructions("a", 1, None) is Instruction.WAIT
    clock.now = 31
    assert await board.instructions("a", 1, None) == LeaveTrial("0-0", Leave.ABANDONED)


VOTES: list[tuple[dict[int, Vote], Ending, str]] = [
    ({1: done(2.0), 0: done(1.0)}, Ending.DONE, ""),
    (
        {1: Vote(Ending.ERROR, error="mine"), 0: Vote(Ending.ERROR, error="peer")},
        Ending.ERROR,
        "mine",
    ),
    ({0: done(1.0), 1: Vote(Ending.ERROR, error="late")}, Ending.ERROR, "late"),
    (
        {0: Vote(Ending.ERROR, error="peer"), 1: Vote(Ending.OUT_OF_MEMORY, error="full")},
        Ending.OUT_OF_MEMORY,
        "full",
    ),
]


@pytest.mark.parametrize(("votes", "ending", "error"), VOTES)
def test_a_job_ends_with_the_first_error_or_with_rank_0(
    votes: dict[int, Vote], ending: Ending, error: str
) -> None:
    async def scenario() -> None:
        board = Board()
        await board.enter("a", 2)
        await board.submit(make_assignment())
        await board.next_assignment("a", 1, 0, 0)
        calls: list[Awaitable[bool]] = [board.vote("a", 1, 0, r, v) for r, v in votes.items()]
        assert await asyncio.gather(*calls) == [True, True]
        (news,) = await board.news("0-0", 1)
        assert isinstance(news, Vote)
        assert (news.ending, news.error) == (ending, error)
        if ending is Ending.DONE:
            assert news == votes[0]

    asyncio.run(scenario())


@on_a_loop
async def test_a_vote_that_stays_incomplete_gives_the_group_up() -> None:
    board = Board(vote_grace_s=0.02)
    await board.enter("a", 2)
    await board.submit(make_assignment())
    await board.next_assignment("a", 1, 0, 0)
    assert not await board.vote("a", 1, 0, 0, done(1.0))
    (news,) = await board.news("0-0", 1)
    assert isinstance(news, Vote)
    assert news.ending is Ending.LOST


@on_a_loop
async def test_a_slot_that_cannot_start_is_given_up() -> None:
    board = Board(max_idle_deaths=1)
    for _ in range(2):
        assert await board.enter("a", 1) > 0
        await board.slot_lost("a", "no such device")
    assert await board.enter("a", 1) == -1
    assert (await board.status()).given_up == {"a": "no such device"}


@on_a_loop
async def test_a_slot_that_got_a_job_can_start() -> None:
    board = Board(max_idle_deaths=1)
    for attempt in range(4):
        epoch = await board.enter("a", 1)
        await board.submit(make_assignment(0, attempt))
        await board.next_assignment("a", epoch, 0, 0)
        await board.slot_lost("a", "killed in a step")
    assert await board.enter("a", 1) > 0


@on_a_loop
async def test_a_closed_board_lets_slots_quit_after_their_job() -> None:
    board = Board()
    await board.enter("a", 1)
    await board.submit(make_assignment())
    await board.next_assignment("a", 1, 0, 0)
    await board.close()
    assert await board.next_assignment("a", 1, 0, 0) == make_assignment(), "it has this one already"
    assert await board.next_assignment("a", 1, 1, 0) is Instruction.QUIT
    assert await board.enter("b", 1) == -1


@on_a_loop
async def test_what_a_lost_slot_held_is_given_to_whoever_tells_of_its_loss() -> None:
    board = Board()
    assert await board.slot_lost("a", "no such device") is None
    await board.slot_holds("a", "two CPUs")
    await board.enter("a", 1)
    assert await board.slot_lost("a", "signal 9") == "two CPUs"


@on_a_loop
async def test_attempts_are_never_numbered_twice() -> None:
    board = Board()
    assert [await board.attempt(7, 0), await board.attempt(7, 0), await board.attempt(7, 5)] == [
        0,
        1,
        5,
    ]
    assert await board.attempt(8, 0) == 0


@on_a_loop
async def test_a_slot_is_given_back_when_no_trial_will_come() -> None:
    board = Board()
    await board.enter("a", 2)
    await board.submit(make_assignment())
    await board.drain(1)
    assert await board.next_assignment("a", 1, 0, 0) == make_assignment(), "what waits is still run"
    waiting = asyncio.create_task(board.next_assignment("a", 1, 1, 0))
    await asyncio.sleep(0)
    assert not waiting.done(), "its trial may want it again"
    await board.drain(0)
    assert await waiting is Instruction.QUIT
    assert await board.next_assignment("a", 1, 1, 1) is Instruction.QUIT
    assert await board.enter("a", 2) == -1
    assert (await board.status()).retired == ["a"]


@on_a_loop
async def test_the_last_trial_finds_a_slot_however_late_it_comes() -> None:
    board = Board()
    for slot in ("a", "b"):
        await board.enter(slot, 1)
    await board.drain(1)
    idle = [asyncio.create_task(board.next_assignment(slot, 1, 0, 0)) for slot in ("a", "b")]
    done, pending = await asyncio.wait(idle, timeout=1, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result() for task in done] == [Instruction.QUIT], "one slot is one too many"
    await board.submit(make_assignment(7))
    assert await pending.pop() == make_assignment(7)


@on_a_loop
async def test_a_slot_that_is_lost_is_nobodys_spare() -> None:
    board = Board()
    for slot in ("a", "b"):
        await board.enter(slot, 1)
    await board.slot_lost("a", "its node is gone")
    await board.drain(1)
    idle = asyncio.create_task(board.next_assignment("b", 1, 0, 0))
    await asyncio.sleep(0)
    assert not idle.done()
    await board.submit(make_assignment(7))
    assert await idle == make_assignment(7)


@on_a_loop
async def test_trials_on_a_node_that_goes_pause_and_their_slots_move() -> None:
    board = Board()
    for slot, node in (("a", "going"), ("b", "staying")):
        await board.enter(slot, 1)
        await board.note_node(slot, node)
    for trial in (0, 1):
        await board.submit(make_assignment(trial))
    await board.next_assignment("a", 1, 0, 0)
    await board.leave_nodes({"going"})
    assert await board.instructions("a", 1, None) == LeaveTrial("0-0", Leave.NODE_GOES)
    assert await board.next_assignment("a", 1, 1, 0) is Instruction.DIE
    assert await board.next_assignment("b", 1, 0, 0) == make_assignment(1)
    assert await board.instructions("b", 1, None) is Instruction.WAIT
    assert await board.enter("a", 1) == 2, "it starts again on another node"
