"""What the board says of how far trials are."""

import asyncio

from service.slots.board import Board
from trainers.trial.assignments import Assignment, Ending, Vote


async def steps_of_a_trial() -> list[dict[int, tuple[int, int]]]:
    """The steps in the board's status before, while and after a slot trains trial 7."""
    board = Board()
    await board.enter("slot", 1)
    await board.submit(Assignment("7-0", 7, "{}", "/nowhere"))
    await board.note_step("7-0", 0, 200)
    await board.next_assignment("slot", 1, 0, 0)
    found = [(await board.status()).steps]
    await board.note_step("7-0", 40, 200)
    await board.note_step("of no lease", 1, 2)
    found.append((await board.status()).steps)
    await board.vote("slot", 1, 0, 0, Vote(Ending.ERROR, error="no"))
    return [*found, (await board.status()).steps]


def test_the_status_says_how_far_trials_are() -> None:
    assert asyncio.run(steps_of_a_trial()) == [{}, {7: (40, 200)}, {}]
