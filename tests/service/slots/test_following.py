"""A Tune trial's way from lease to lease, against a board that answers from a script."""

from pathlib import Path
from typing import Any

import pytest
from fakes import make_sweep_plan

from service.slots.failures import Budgets
from service.slots.following import follow
from service.slots.messages import Message, Ticket
from trainers.trial.assignments import Assignment, Ending, Report, Said, Vote
from trainers.trial.reporting import Leave, Outcome, TrialResult
from trainers.trial.trial_file import TrialFile, TrialPaths

DONE = Vote(Ending.DONE, TrialResult(Outcome.COMPLETED, {"rouge_l": 1.0}, 4, 0.0, None, None))


class Remote:
    """A method as an actor's handle has it."""

    def __init__(self, call: Any) -> None:
        self.remote = call


class ScriptedBoard:
    """Answers `news` with the next list of the script; notes what it is asked for."""

    def __init__(self, script: list[list[Any]]) -> None:
        self.script = script
        self.assignments: list[Assignment] = []
        self.released: list[tuple[str, Leave]] = []
        self.attempts = -1
        self.submit = Remote(self.assignments.append)
        self.release = Remote(lambda *given: self.released.append(given))
        self.news = Remote(lambda lease, timeout_s: self.script.pop(0))
        self.attempt = Remote(self._attempt)

    def _attempt(self, trial: int, at_least: int) -> int:
        self.attempts = max(self.attempts + 1, at_least)
        return self.attempts


@pytest.fixture
def ticket(tmp_path: Path) -> Ticket:
    trial = TrialFile(
        sweep_id="s",
        trial=3,
        config=make_sweep_plan().spec.trial_config({"tau": 2.0}),
        paths=TrialPaths(teacher="/t", student="/s", data="/d"),
    )
    return Ticket(trial, str(tmp_path / "3"), "run", "board", "space", Budgets(error=0, lost=1))


def play(ticket: Ticket, script: list[list[Any]]) -> tuple[list[Message], ScriptedBoard]:
    board = ScriptedBoard(script)
    return list(follow(board, ticket, get=lambda value: value)), board


def test_reports_and_the_end_are_passed_on(ticket: Ticket) -> None:
    report = Report(1, 2, {"rouge_l": 0.5})
    messages, board = play(ticket, [[], [report], [DONE]])
    assert [message.kind for message in messages] == ["evaluated", "ended"]
    assert (messages[0].report, messages[1].vote) == (report, DONE)
    assert board.released == [("3-0", Leave.ABANDONED)]
    assert TrialFile.read(Path(ticket.output) / "trial.json") == ticket.trial


def test_a_damaged_trial_file_of_an_attempt_before_is_written_anew(ticket: Ticket) -> None:
    path = Path(ticket.output) / "trial.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"trial": 3, "conf')
    with pytest.raises(ValueError, match=f"{path} is not a trial.json"):
        TrialFile.read(path)
    play(ticket, [[DONE]])
    assert TrialFile.read(path) == ticket.trial


def test_what_a_worker_says_is_passed_on(ticket: Ticket) -> None:
    messages, _ = play(ticket, [[Said("the disk is full")], [DONE]])
    assert [(message.kind, message.text) for message in messages] == [
        ("said", "the disk is full"),
        ("ended", ""),
    ]


def test_a_lost_attempt_is_followed_by_another_that_repeats_no_evaluation(ticket: Ticket) -> None:
    lost = Vote(Ending.LOST, error="signal 9")
    first, second = Report(1, 2, {"rouge_l": 0.5}), Report(2, 4, {"rouge_l": 1.0})
    messages, board = play(ticket, [[first], [lost], [first, second, DONE]])
    assert [(m.kind, m.attempt) for m in messages] == [
        ("evaluated", 0),
        ("retrying", 1),
        ("evaluated", 1),
        ("ended", 1),
    ]
    assert messages[1].vote == lost
    assert [each.lease for each in board.assignments] == ["3-0", "3-1"]
    assert TrialFile.read(Path(ticket.output) / "trial.json").attempt == 1


def test_a_spent_budget_ends_the_trial_with_its_last_failure(ticket: Ticket) -> None:
    lost = Vote(Ending.LOST, error="signal 9")
    messages, _ = play(ticket, [[lost], [lost]])
    assert [message.kind for message in messages] == ["retrying", "ended"]
    assert messages[-1].vote == lost


def test_a_cancelled_trial_says_so(ticket: Ticket) -> None:
    messages, board = play(ticket, [[Leave.SWEEP_STOPPED]])
    assert [(m.kind, m.reason) for m in messages] == [("cancelled", Leave.SWEEP_STOPPED)]
    assert board.released == [("3-0", Leave.ABANDONED)]


def test_a_follower_that_leaves_gives_its_lease_back(ticket: Ticket) -> None:
    board = ScriptedBoard([[Report(1, 2, {})]])
    following = follow(board, ticket, get=lambda value: value)
    assert next(following).kind == "evaluated"
    following.close()
    assert board.released == [("3-0", Leave.ABANDONED)]


def test_a_resumed_trial_starts_with_the_attempt_it_was_given(ticket: Ticket) -> None:
    again = ticket.trial.model_copy(update={"attempt": 4})
    messages, _ = play(Ticket(again, ticket.output, None, "board", "space"), [[DONE]])
    assert messages[0].attempt == 4
